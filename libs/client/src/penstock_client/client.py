"""The typed client of Penstock's HTTP API.

    async with PenstockClient("http://127.0.0.1:8000", key) as client:
        made = await client.endpoints.create({"image": {"image": "vllm/vllm-openai:latest"}})
        endpoint = await client.endpoints.wait_until_serving(made.id, timeout_s=900)
        async for worker in client.workers.list(endpoint.id):
            print(worker.id, worker.state)

Every call raises `ApiError` when the api refuses and `UnreachableError` when it cannot be asked. What
fails for a moment is sent again (`RetryPolicy`); a change carries an `Idempotency-Key`, so it is done
once however often it is sent.
"""

from types import TracebackType
from typing import Any, Final, Self

from penstock_client.calls.api_keys import ApiKeyCalls
from penstock_client.calls.audit import AuditCalls
from penstock_client.calls.endpoints import EndpointCalls
from penstock_client.calls.events import EventCalls
from penstock_client.calls.join_tokens import JoinTokenCalls
from penstock_client.calls.nodes import NodeCalls
from penstock_client.calls.offers import LimitCalls, ProductCalls
from penstock_client.calls.prewarms import PrewarmCalls
from penstock_client.calls.registry_auths import RegistryAuthCalls
from penstock_client.calls.usage import UsageCalls
from penstock_client.calls.volumes import VolumeCalls
from penstock_client.calls.webhooks import WebhookCalls
from penstock_client.calls.workers import WorkerCalls
from penstock_client.retrying import RetryPolicy
from penstock_client.transport import Transport

_USUAL: Final = RetryPolicy()


class PenstockClient:
    """Asks one api with one key; each attribute is a kind of resource.

    An async context manager, that closes its connections when left.
    """

    endpoints: EndpointCalls
    workers: WorkerCalls
    nodes: NodeCalls
    volumes: VolumeCalls
    prewarms: PrewarmCalls
    registry_auths: RegistryAuthCalls
    api_keys: ApiKeyCalls
    join_tokens: JoinTokenCalls
    usage: UsageCalls
    audit: AuditCalls
    webhooks: WebhookCalls
    products: ProductCalls
    limits: LimitCalls
    events: EventCalls

    def __init__(
        self, url: str, key: str, *, timeout_s: float = 30.0, retry: RetryPolicy = _USUAL
    ) -> None:
        """A client that has not connected yet.

        Args:
            url: of the api, e.g. `http://127.0.0.1:8000`.
            key: an API key.
            timeout_s: longest wait for the answer to one attempt.
            retry: how often and for how long requests are sent again.
        """
        self._transport = transport = Transport(url, key, timeout_s=timeout_s, retry=retry)
        self.endpoints = EndpointCalls(transport)
        self.workers = WorkerCalls(transport)
        self.nodes = NodeCalls(transport)
        self.volumes = VolumeCalls(transport)
        self.prewarms = PrewarmCalls(transport)
        self.registry_auths = RegistryAuthCalls(transport)
        self.api_keys = ApiKeyCalls(transport)
        self.join_tokens = JoinTokenCalls(transport)
        self.usage = UsageCalls(transport)
        self.audit = AuditCalls(transport)
        self.webhooks = WebhookCalls(transport)
        self.products = ProductCalls(transport)
        self.limits = LimitCalls(transport)
        self.events = EventCalls(transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; safe to repeat. Not needed where the client is entered."""
        await self._transport.close()

    async def send(self, method: str, path: str, document: object = None) -> Any:  # noqa: ANN401
        """The parsed JSON of any route's answer, for what has no call of its own.

        Args:
            method: of HTTP.
            path: with its query, both encoded.
            document: sent as JSON; None = no body. With PATCH, a JSON merge patch (RFC 7396).

        Raises:
            ApiError: the api refused.
            UnreachableError: it could not be asked, or the answer is none of a Penstock api.
        """
        return await self._transport.send(method, path, document)
