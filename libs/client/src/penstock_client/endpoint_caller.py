"""Requests to an endpoint, through the router.

    async with EndpointCaller("http://127.0.0.1:8080/llama-3", key) as llama:
        reply = await llama.call("POST", "/v1/chat/completions", json={"messages": [...]})
        print(reply.json(), reply.head.worker_id)
        async with llama.stream("POST", "/v1/chat/completions", json={..., "stream": True}) as answer:
            async for event in answer.events():
                print(event.data)

What a worker answers is given as it is, its own errors included. When none answered, a `CallError`
says why (`call_errors.py`).
"""

import asyncio
import contextlib
import json as json_format
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import TracebackType
from typing import Final, Self

from penstock_client.call_errors import WORKER_HEADER, CallBrokenError, error_of, failure_of
from penstock_client.call_replies import CallHead, CallReply
from penstock_client.retrying import Repeatable, RetryPolicy, decide_pause_s
from penstock_client.sse import EventReader, ServerEvent
from penstock_client.wire import Reply, Request, WireError
from penstock_client.wire_async import Answer, Wire
from penstock_common.clock import SystemClock
from penstock_common.entropy import random_ratio

_CLOCK: Final = SystemClock()
_USUAL: Final = RetryPolicy()
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: A queue's 300 s and a worker's 600 s, as endpoints have them unless told otherwise.
_SILENCE_S: Final = 900.0


class CallStream:
    """A worker's answer, whose body is read as it comes."""

    def __init__(self, answer: Answer) -> None:
        """The answer with this head; used within `EndpointCaller.stream`."""
        self._answer = answer
        self.head = CallHead(answer.status, answer.headers)

    async def read(self) -> bytes:
        """The rest of the body.

        Raises:
            CallBrokenError: it broke off.
        """
        try:
            return await self._answer.read()
        except WireError as error:
            raise _broken_off(error) from None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes.

        Raises:
            CallBrokenError: it broke off, while iterating.
        """
        while True:
            try:
                data = await self._answer.read_some()
            except WireError as error:
                raise _broken_off(error) from None
            if not data:
                return
            yield data

    async def events(self) -> AsyncGenerator[ServerEvent, None]:
        """The server-sent events of the body as they come.

        Raises:
            CallBrokenError: it broke off, while iterating.
        """
        reader = EventReader()
        async for data in self.chunks():
            for event in reader.feed(data):
                yield event


class EndpointCaller:
    """Calls one endpoint with one key. An async context manager."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        silence_s: float = _SILENCE_S,
        retry: RetryPolicy = _USUAL,
        wire: Wire | None = None,
    ) -> None:
        """A caller that has not connected yet.

        Args:
            url: of the endpoint, as its document shows it.
            key: an API key that may call it; None = it is public.
            silence_s: longest wait for the next byte, a cold start included.
            retry: how often and for how long requests are sent again.
            wire: connections to share, which stay open; None = its own.
        """
        self._url = url.rstrip("/")
        self._key = key
        self._silence_s = silence_s
        self._retry = retry
        self._owned = wire is None
        self._wire = wire or Wire()

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
        """Close every connection of its own; safe to repeat."""
        if self._owned:
            await self._wire.close()

    async def call(
        self,
        method: str,
        path: str = "/",
        *,
        json: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        affinity: str | None = None,
        is_repeatable: bool = False,
        timeout_s: float | None = None,
    ) -> CallReply:
        """A worker's whole answer; arguments and errors are those of `stream`."""
        opened = self.stream(
            method,
            path,
            json=json,
            data=data,
            headers=headers,
            affinity=affinity,
            is_repeatable=is_repeatable,
            timeout_s=timeout_s,
        )
        async with opened as answer:
            return CallReply(answer.head, await answer.read())

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str = "/",
        *,
        json: object = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        affinity: str | None = None,
        is_repeatable: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncIterator[CallStream]:
        """A worker's answer, to be read as it comes; left early, its connection is closed.

        A request that no worker has seen is sent again after the time that the router names. One
        that a worker may have seen is sent again only where that does no harm.

        Args:
            method: of HTTP.
            path: at the worker, with its query, both encoded.
            json: sent as the body, as JSON; None = see `data`.
            data: sent as the body as it is; None = no body.
            headers: beside those that the client sets.
            affinity: requests with the same text go to the same worker, as far as that is wise.
            is_repeatable: whether a worker may do it twice; reading methods always may.
            timeout_s: longest time for the whole answer; None = as the endpoint's limits have it.

        Raises:
            CallRefusedError: the router answered; its subclasses say what stands in the way.
            CallBrokenError: the router cannot be reached, or the connection broke.
        """
        request = self._request(method, path, json, data, headers or {}, affinity)
        may = is_repeatable or method in _READING
        repeatable = Repeatable.HARMLESS if may else Repeatable.NO
        async with contextlib.AsyncExitStack() as stack:
            yield CallStream(await self._opened(stack, request, repeatable, timeout_s))

    def _request(
        self,
        method: str,
        path: str,
        json: object,
        data: bytes | None,
        headers: Mapping[str, str],
        affinity: str | None,
    ) -> Request:
        ours: dict[str, str] = {}
        if self._key is not None:
            ours["Authorization"] = f"Bearer {self._key}"
        if json is not None:
            ours["Content-Type"] = "application/json"
            data = json_format.dumps(json).encode()
        if affinity is not None:
            ours["X-Penstock-Affinity"] = affinity
        url = f"{self._url}/{path.removeprefix('/')}"
        return Request(method, url, {**ours, **headers}, data)

    async def _opened(
        self,
        stack: contextlib.AsyncExitStack,
        request: Request,
        repeatable: Repeatable,
        timeout_s: float | None,
    ) -> Answer:
        """The head of a worker's answer, after as many attempts as help; `stack` closes it."""
        began, attempt = _CLOCK.monotonic(), 0
        while True:
            attempt += 1
            outcome = await self._attempt(stack, request, timeout_s)
            if isinstance(outcome, Answer):
                return outcome
            error = error_of(outcome, _CLOCK.utc())
            pause_s = decide_pause_s(
                self._retry,
                failure_of(outcome, error),
                repeatable=repeatable,
                attempt=attempt,
                elapsed_s=_CLOCK.monotonic() - began,
                ratio=random_ratio(),
            )
            if pause_s is None:
                raise error
            await asyncio.sleep(pause_s)

    async def _attempt(
        self, stack: contextlib.AsyncExitStack, request: Request, timeout_s: float | None
    ) -> Answer | Reply | WireError:
        """A worker's answer, left open; or the router's, whole; or how there was none."""
        exchange = self._wire.exchange(request, silence_s=self._silence_s, total_s=timeout_s)
        outcome: Reply | WireError
        try:
            answer = await stack.enter_async_context(exchange)
            if WORKER_HEADER in answer.headers:
                return answer
            outcome = Reply(answer.status, answer.headers, await answer.read())
        except WireError as error:
            outcome = error
        await stack.aclose()
        return outcome


def _broken_off(error: WireError) -> CallBrokenError:
    return CallBrokenError(f"the worker's answer broke off: {error}")
