"""Calls over NATS: FastStream subscribers made from the table of operations, and their life."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fast_depends import Provider
from faststream.nats import NatsBroker, NatsMessage, NatsResponse
from typing_extensions import override

from penstock_api import idempotency
from penstock_api.answers import Answer
from penstock_api.audit.trail import Attempt
from penstock_api.context import Api
from penstock_api.problems import RefusedError
from penstock_api.request_ids import HEADER as REQUEST_ID
from penstock_api.request_ids import choose_request_id
from penstock_api.rpc import endpoints
from penstock_api.rpc.bus_client import BusClient
from penstock_api.rpc.call import Call, Operation
from penstock_api.rpc.replies import error_answer
from penstock_common.errors import PenstockError
from penstock_common.nats.connection import Bus
from penstock_common.subjects import CALLS_QUEUE

logger = logging.getLogger(__name__)

#: Every call of the api; the docs and the NATS permissions are checked against it.
OPERATIONS: Final[tuple[Operation, ...]] = (*endpoints.OPERATIONS,)

#: To the answers kept for repeats, all integrations are one caller.
_CALLER: Final = "nats"


class CallService:
    """Takes calls from `start` to `stop`."""

    def __init__(self, api: Api, bus: Bus) -> None:
        """Over this bus; nothing is subscribed yet."""
        self._client = BusClient(bus)
        self._broker = _BusBroker(self._client)
        for operation in OPERATIONS:
            subscriber = self._broker.subscriber(
                operation.subject, queue=CALLS_QUEUE, description=operation.summary
            )
            subscriber(_handler(api, operation))

    async def start(self) -> None:
        """Take calls.

        Raises:
            BusDisconnectedError, BusTimeoutError: the server did not confirm.
        """
        await self._broker.start()
        await self._client.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls and answer those under way, for at most `grace_s` seconds."""
        await self._client.stop(grace_s)
        await self._broker.stop()


class _BusBroker(NatsBroker):
    """A FastStream broker whose connection is ours."""

    def __init__(self, client: BusClient) -> None:
        super().__init__(
            provider=Provider(), decoder=_as_it_is, logger=logger, log_level=logging.DEBUG
        )
        self._client = client

    @override
    async def _connect(self) -> Any:
        client: Any = self._client
        self.config.connect(client)
        return client


async def _as_it_is(message: NatsMessage) -> bytes:
    """The body: JSON is read as strictly as HTTP's, by `Call.json`."""
    return message.body


def _handler(
    api: Api, operation: Operation
) -> Callable[[bytes, NatsMessage], Awaitable[NatsResponse]]:
    async def handle(body: bytes, message: NatsMessage) -> NatsResponse:
        headers = {name.lower(): value for name, value in message.headers.items()}
        answer = await _answer(api, operation, Call(operation.subject, body, headers))
        return NatsResponse(answer.body, headers=dict(answer.headers))

    return handle


async def _answer(api: Api, operation: Operation, call: Call) -> Answer:
    """The answer, whatever happens; each call leaves one line in the log."""
    started = api.clock.monotonic()
    try:
        await api.store.catch_up()
        answer = await _once(api, operation, call)
    except PenstockError as error:
        answer = error_answer(error)
    except Exception:
        logger.exception("call failed", extra={"action": "call_failed"})
        answer = error_answer(
            RefusedError(500, "internal", "the api met an error; its log says more")
        )
    logger.log(
        logging.INFO if operation.changes else logging.DEBUG,
        "call answered",
        extra={
            "action": "call_answered",
            "messaging.destination.name": operation.subject,
            "status": answer.status,
            "duration_s": round(api.clock.monotonic() - started, 6),
        },
    )
    return answer


async def _once(api: Api, operation: Operation, call: Call) -> Answer:
    key = call.headers.get(idempotency.HEADER.lower())
    if key is None or not operation.changes:
        return await _recorded(api, operation, call)
    repeatable = idempotency.Repeatable(
        caller=_CALLER, target=("", call.subject), key=key, body=call.body
    )
    return await api.repeats.once(repeatable, lambda: _recorded(api, operation, call))


async def _recorded(api: Api, operation: Operation, call: Call) -> Answer:
    """The answer of the handler, with a record in the audit trail when it may change something."""
    if not operation.changes:
        return await operation.handler(api, call)
    attempt = Attempt(
        action=operation.name,
        route=operation.subject,
        request_id=choose_request_id(call.headers.get(REQUEST_ID.lower(), "")),
        key_id=_CALLER,
        key_name="an integration",
        source=_CALLER,
    )
    async with api.audit.recorded(attempt) as deed:
        answer = await operation.handler(api, call)
        deed.answered(answer.status)
        return answer
