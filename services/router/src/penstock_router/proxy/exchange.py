"""One request of a client, and its response: the bytes between client and worker.

Theory of operation. `run` asks the gate where the request goes, then tries workers, one after the
other: acquire a slot, send, stream the response, finish the slot. Whatever ends a try, including
the cancellation that a client's leaving is, first closes the connection to the worker and then
finishes the slot, once.

Another worker is tried while it is safe: nothing was sent, or the request is idempotent, has no
body that was begun, and no byte of a response has come.

Once the response's head went out there is no other answer: when the worker fails then, the
client's connection is cut, so that half a response never looks whole.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from penstock_router.admission import Refusal, RefusedError
from penstock_router.gate import Answer, Call, Gate, RequestHead
from penstock_router.headers import Service, build_response
from penstock_router.lanes import LeaseOutcome, SlotLease
from penstock_router.proxy.upstream import BrokenError, RequestBody, UnreachableError, Upstream

logger = logging.getLogger(__name__)

#: How the router names itself where a worker's response does not name a server.
SERVER: Final = "penstock"


@dataclass(frozen=True, slots=True)
class _Tried:
    """How a try at a worker ended."""

    outcome: LeaseOutcome
    #: what the client gets
    response: web.StreamResponse
    #: whether another worker may be tried instead
    again: bool = False


class _JoinedResponse(web.StreamResponse):
    """Its head leaves in one write with what is written first."""

    _send_headers_immediately = False


class _ClientLeftError(Exception):
    """The client's connection is gone (worker's errors have the same types)."""


async def _write(work: Awaitable[object]) -> None:
    try:
        await work
    except ConnectionError as error:
        raise _ClientLeftError from error


class Exchange:
    """One request and its response."""

    def __init__(
        self, request: web.BaseRequest, *, gate: Gate, upstream: Upstream, max_attempts: int
    ) -> None:
        """An exchange that has not begun."""
        self._request = request
        self._gate = gate
        self._upstream = upstream
        self._max_attempts = max_attempts
        self._body = RequestBody(request.content) if request.body_exists else None
        self._continued = False
        self._response: web.StreamResponse | None = None

    async def run(self) -> web.StreamResponse:
        """Serve the request; gives the response, begun or not, for the server to end."""
        request = self._request
        opened = self._gate.open(
            RequestHead(
                method=request.method,
                target=request.raw_path,
                version=(request.version.major, request.version.minor),
                fields=list(request.headers.items()),
                peer=request.remote or "unknown",
                scheme=request.scheme,
            )
        )
        if isinstance(opened, Answer):
            return self._answer(opened)
        return await self._try_workers(opened)

    async def _try_workers(self, call: Call) -> web.StreamResponse:
        since: float | None = None
        failed: set[str] = set()
        for attempt in range(1, self._max_attempts + 1):
            try:
                lease = await self._gate.acquire(call, since=since, avoid=failed)
            except RefusedError as error:
                return self._refuse(error.refusal, call)
            outcome: LeaseOutcome = "cancelled"
            try:
                tried = await self._try_worker(call, lease)
                outcome = tried.outcome
            finally:
                self._gate.finish(lease, outcome)
            if not tried.again or attempt == self._max_attempts:
                return tried.response
            since = lease.dispatched_at - lease.waited_s
            failed.add(lease.worker_id)
        raise AssertionError("max_attempts is at least 1")

    async def _try_worker(self, call: Call, lease: SlotLease) -> _Tried:
        try:
            async with asyncio.timeout(call.timeout_s):
                return await self._forward(call, lease)
        except TimeoutError:
            problem = Refusal(
                504,
                "request_timeout",
                f"The worker did not answer within {call.timeout_s:g} s"
                " (workers.request_timeout_s).",
            )
            return _Tried("error", self._fail(problem, call, lease))
        except UnreachableError as error:
            problem = Refusal(502, error.error_type, str(error))
            return _Tried("connect_failed", self._fail(problem, call, lease), again=True)
        except BrokenError as error:
            if self._body is not None and self._body.error is not None:
                problem = Refusal(400, "bad_request_body", "The request's body is broken.")
                response = self._fail(problem, call, lease)
                response.force_close()  # where the next request would begin is anybody's guess
                return _Tried("cancelled", response)
            untouched = self._body is None or not self._body.started
            again = self._response is None and call.idempotent and untouched
            problem = Refusal(502, error.error_type, str(error))
            return _Tried("error", self._fail(problem, call, lease), again=again)

    async def _forward(self, call: Call, lease: SlotLease) -> _Tried:
        if call.expects_continue and not self._continued:
            # Only now is it sure that somebody takes the body.
            self._continued = True
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0
        answer = await self._upstream.send(lease.address, call, self._body)
        try:
            return await self._stream_back(call, lease, answer)
        finally:
            answer.close()  # drops the connection, unless it was read to its end

    async def _stream_back(
        self, call: Call, lease: SlotLease, answer: aiohttp.ClientResponse
    ) -> _Tried:
        service = Service(lease.worker_id, lease.waited_s, lease.cold, call.request_id)
        fields = CIMultiDict(build_response(list(answer.headers.items()), service))
        fields.setdefault("Server", SERVER)
        try:
            piece = answer.content.read_nowait()
            whole = answer.content.at_eof()
            # A head alone goes out at once; one with something to follow goes out with that.
            kind = _JoinedResponse if piece or whole else web.StreamResponse
            response = kind(status=answer.status, reason=answer.reason, headers=fields)
            self._response = response
            await _write(response.prepare(self._request))
            if piece:
                await _write(response.write(piece))
            while piece := await answer.content.readany():
                await _write(response.write(piece))
        except _ClientLeftError:
            return _Tried("cancelled", self._response or web.Response())
        except (aiohttp.ClientError, OSError) as error:
            raise BrokenError(f"The worker broke off in its answer: {error}") from error
        # The server ends the response; the slot need not wait for a slow client.
        return _Tried("ok", response)

    # ---- responses of the router's own

    def _fail(self, problem: Refusal, call: Call, lease: SlotLease) -> web.StreamResponse:
        logger.warning(
            "request failed at its worker",
            extra={
                "action": "request_failed",
                "request_id": call.request_id,
                "endpoint_id": lease.endpoint_id,
                "worker_id": lease.worker_id,
                "reason": problem.reason,
                "detail": problem.detail,
                "begun": self._response is not None,
            },
        )
        if self._response is None:
            return self._refuse(problem, call)
        transport = self._request.transport
        if transport is not None:
            transport.abort()
        return self._response

    def _refuse(self, refusal: Refusal, call: Call) -> web.StreamResponse:
        return self._answer(self._gate.refuse(refusal, call.request_id))

    def _answer(self, answer: Answer) -> web.StreamResponse:
        fields = CIMultiDict(answer.fields)
        fields["Server"] = SERVER
        response = web.Response(status=answer.status, body=answer.body, headers=fields)
        if "Expect" in self._request.headers and not self._continued:
            # Nobody knows whether the body will follow: what comes next could not be framed.
            response.force_close()
        return response
