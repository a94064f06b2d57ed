# Made by libs/client/make_sync.py of penstock_client/transport.py: change that one.
"""How every call reaches the api: one key, answers parsed, refusals raised, failures retried."""

import dataclasses
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from pydantic import ValidationError

from penstock_client.api_requests import api_request, failure_of, parse_reply, repeatable
from penstock_client.documents import Document
from penstock_client.errors import UnreachableError
from penstock_client.retrying import RetryPolicy, decide_pause_s
from penstock_client.sse import ServerEvent
from penstock_client.sync.endpoint_caller import EndpointSyncCaller
from penstock_client.sync.following import read_events
from penstock_client.wire import Reply, Request, TooSlowError, WireError
from penstock_client.wire_sync import Answer, Wire
from penstock_common.clock import SystemClock
from penstock_common.entropy import random_hex, random_ratio

D = TypeVar("D", bound=Document)

_CLOCK = SystemClock()
#: Hexadecimal digits of an Idempotency-Key: nobody makes the same one.
_KEY_DIGITS = 32
#: An attempt that has no time left is made all the same, and fails: 0 would mean no limit.
_LEAST_TIMEOUT_S = 0.001


class Transport:
    """Asks one api with one key."""

    def __init__(self, url: str, key: str, *, timeout_s: float, retry: RetryPolicy) -> None:
        """A transport that has not connected yet; the arguments are those of `PenstockSyncClient`."""
        self._url = url.rstrip("/")
        self._key = key
        self._timeout_s = timeout_s
        self._retry = retry
        self._wire = Wire()

    def close(self) -> None:
        """Close every connection; safe to repeat."""
        self._wire.close()

    def ask(
        self,
        answer: type[D],
        method: str,
        path: str,
        document: object = None,
        *,
        if_match: str | None = None,
        only_new: bool = False,
        idempotency_key: str | None = None,
        within_s: float | None = None,
    ) -> D:
        """The answer to one request, as a document of this type.

        Args:
            answer: what a successful answer is.
            method: of HTTP.
            path: with its query, both encoded.
            document: sent as JSON; None = no body. With PATCH, a JSON merge patch (RFC 7396).
            if_match: the ETag of what the change is made to; None = of whatever there is.
            only_new: nothing is done if there is such a thing already.
            idempotency_key: under which the change is done once; None = a fresh one.
            within_s: longest time for all attempts; None = as the policy of retries has it.

        Raises:
            ApiError: the api refused.
            UnreachableError: it could not be asked, or the answer is none of a Penstock api.
        """
        key = idempotency_key or random_hex(_KEY_DIGITS)
        request = self._request(
            method, path, document, idempotency_key=key, if_match=if_match, only_new=only_new
        )
        reply = self._answered(request, within_s)
        value = parse_reply(self._url, reply, _CLOCK.utc())
        try:
            return answer.of(value, etag=reply.headers.get("etag"))
        except ValidationError as error:
            raise UnreachableError(
                f"{self._url} answered what this client does not understand "
                f"(is the api newer?): {error}"
            ) from None

    def send(self, method: str, path: str, document: object = None) -> Any:  # noqa: ANN401
        """The parsed JSON of the answer; arguments and errors are those of `ask`."""
        key = random_hex(_KEY_DIGITS)
        request = self._request(method, path, document, idempotency_key=key)
        return parse_reply(self._url, self._answered(request, None), _CLOCK.utc())

    def follow(
        self,
        path: str,
        parse: Callable[[ServerEvent], D | None],
        is_last: Callable[[D], bool],
    ) -> Generator[D, None, None]:
        """Documents as the api sends them in a stream of server-sent events.

        It goes on over connections that break, behind the last event that came, and ends with the
        document that `is_last`.

        Args:
            path: with its query, both encoded.
            parse: gives an event's document; None = the event says nothing to this client.
            is_last: whether a document ends the stream.

        Raises:
            ApiError: the api refused, while iterating.
            UnreachableError: it could not be reached for a minute, or sent what is no such stream.
        """

        def ask(headers: dict[str, str], silence_s: float) -> AbstractContextManager[Answer]:
            request = self._request("GET", path)
            headers = {**request.headers, **headers}
            request = dataclasses.replace(request, headers=headers)
            return self._wire.exchange(request, silence_s=silence_s)

        def refuse(reply: Reply) -> object:
            return parse_reply(self._url, reply, _CLOCK.utc())

        return read_events(ask, refuse, parse, is_last)

    def caller(self, url: str) -> EndpointSyncCaller:
        """Calls the endpoint with this URL, with the same key and over the same connections."""
        return EndpointSyncCaller(url, self._key, retry=self._retry, wire=self._wire)

    def _request(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        idempotency_key: str = "",
        if_match: str | None = None,
        only_new: bool = False,
    ) -> Request:
        return api_request(
            self._url + path,
            self._key,
            method,
            document,
            idempotency_key=idempotency_key,
            if_match=if_match,
            only_new=only_new,
        )

    def _answered(self, request: Request, within_s: float | None) -> Reply:
        """The last answer, good or bad, after as many attempts as help."""
        began, policy = _CLOCK.monotonic(), self._retry
        if within_s is not None:
            policy = dataclasses.replace(policy, total_s=min(policy.total_s, within_s))
        timeout_s = self._timeout_s if within_s is None else min(self._timeout_s, within_s)
        attempt = 0
        while True:
            attempt += 1
            outcome = self._attempt(request, timeout_s)
            elapsed_s = _CLOCK.monotonic() - began
            failure = failure_of(outcome, _CLOCK.utc())
            if failure is None:
                break
            pause_s = decide_pause_s(
                policy,
                failure,
                repeatable=repeatable(request),
                attempt=attempt,
                elapsed_s=elapsed_s,
                ratio=random_ratio(),
            )
            if pause_s is None:
                break
            time.sleep(pause_s)
            timeout_s = min(self._timeout_s, policy.total_s - elapsed_s - pause_s)
        if isinstance(outcome, WireError):
            raise UnreachableError(self._said_of(outcome, timeout_s, attempt))
        return outcome

    def _attempt(self, request: Request, timeout_s: float) -> Reply | WireError:
        try:
            return self._wire.fetch(request, timeout_s=max(timeout_s, _LEAST_TIMEOUT_S))
        except WireError as error:
            return error

    def _said_of(self, error: WireError, timeout_s: float, attempts: int) -> str:
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        if isinstance(error, TooSlowError):
            return f"{self._url} did not answer within {timeout_s:.3g} s{tried}"
        return f"{self._url} cannot be reached: {error}{tried}"
