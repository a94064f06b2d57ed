"""Calls about endpoints."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

from penstock_client.api_requests import quoted
from penstock_client.calls.listing import Listing
from penstock_client.calls.logs import LogDocument, follow_logs
from penstock_client.documents import (
    DecisionList,
    EndpointDocument,
    EndpointList,
    RevisionList,
)
from penstock_client.errors import (
    ApiError,
    NotServingError,
    UnreachableError,
    WaitTimeoutError,
)
from penstock_client.transport import Transport
from penstock_common.clock import SystemClock
from penstock_common.states import EndpointState

PATH: Final = "/v1/endpoints"
CLOCK: Final = SystemClock()
_NEVER_SERVING: Final = frozenset(
    {EndpointState.FAILED, EndpointState.PAUSED, EndpointState.DELETING}
)


class EndpointCalls:
    """Endpoints, each named by its id or its `app_name`.

    A change with `if_match`, the `etag` of the document that was read, is made only if nobody has
    changed the endpoint since; else it is refused (412, `precondition_failed`).
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self, document: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> EndpointDocument:
        """The new endpoint made from this document (docs/http-api.md).

        Sent again with the same `idempotency_key` within a day, it makes no second one and is
        answered with the first. None = a fresh key for this call and what the client repeats of it.
        """
        return await self._transport.ask(
            EndpointDocument, "POST", PATH, document, idempotency_key=idempotency_key
        )

    def list(
        self,
        *,
        state: EndpointState | None = None,
        name_part: str | None = None,
        page_size: int | None = None,
    ) -> Listing[EndpointDocument, EndpointList]:
        """The endpoints, oldest first.

        Args:
            state: only those in this state; None = in any.
            name_part: only those with this text in their name or `app_name`; None = all.
            page_size: how many are fetched at once, 1 to 1000; None = 1000.
        """
        query = {"state": state, "q": name_part, "limit": page_size}
        return Listing(self._transport, PATH, EndpointList, lambda page: page.endpoints, query)

    async def show(self, endpoint: str) -> EndpointDocument:
        """The endpoint with this id or `app_name`."""
        return await self._transport.ask(EndpointDocument, "GET", path_of(endpoint))

    async def update(
        self, endpoint: str, patch: Mapping[str, Any], *, if_match: str | None = None
    ) -> EndpointDocument:
        """The endpoint after a JSON merge patch (RFC 7396)."""
        return await self._transport.ask(
            EndpointDocument, "PATCH", path_of(endpoint), patch, if_match=if_match
        )

    async def delete(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint, from now on `deleting`; safe to repeat until it is gone."""
        return await self._transport.ask(
            EndpointDocument, "DELETE", path_of(endpoint), if_match=if_match
        )

    async def pause(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint, from now on kept at 0 workers."""
        return await self._do(endpoint, "pause", if_match=if_match)

    async def resume(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint, no longer paused."""
        return await self._do(endpoint, "resume", if_match=if_match)

    async def decisions(self, endpoint: str) -> DecisionList:
        """The autoscaler's last decisions on one endpoint, newest first."""
        path = f"{path_of(endpoint)}/decisions"
        return await self._transport.ask(DecisionList, "GET", path)

    async def revisions(self, endpoint: str) -> RevisionList:
        """The endpoint's last revisions, newest first, each with what it changed."""
        path = f"{path_of(endpoint)}/revisions"
        return await self._transport.ask(RevisionList, "GET", path)

    async def roll_back(
        self, endpoint: str, revision: int | None = None, *, if_match: str | None = None
    ) -> EndpointDocument:
        """The endpoint, from now on with what that revision ran; None = the one before."""
        return await self._do(endpoint, "rollback", {"revision": revision}, if_match=if_match)

    async def share_traffic(
        self,
        endpoint: str,
        percent: int,
        change: Mapping[str, Any] | None = None,
        *,
        if_match: str | None = None,
    ) -> EndpointDocument:
        """The endpoint with a canary that gets `percent` of the requests; `change` begins one."""
        document = {"percent": percent, "change": change}
        return await self._do(endpoint, "canary", document, if_match=if_match)

    async def promote(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint, whose canary gets all requests from now on."""
        return await self._do(endpoint, "promote", if_match=if_match)

    async def abort(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint without its canary: what ran before it gets all requests."""
        return await self._do(endpoint, "abort", if_match=if_match)

    def logs(
        self, endpoint: str, *, follow: bool = False, tail: int | None = None
    ) -> AsyncGenerator[LogDocument, None]:
        """Lines of all workers of an endpoint, and the word of those that are missing.

        It goes on over connections that break, and ends with a `LogEndDocument`.

        Args:
            endpoint: id or `app_name`.
            follow: whether to go on when all that there is has come.
            tail: begin with the last lines, so many; None = with the first that there is.

        Raises:
            ApiError: the api refused (404: there is no such endpoint), while iterating.
            UnreachableError: it could not be reached for a minute, while iterating.
        """
        return follow_logs(self._transport, path_of(endpoint), follow=follow, tail=tail)

    async def wait_until(
        self,
        endpoint: str,
        is_there: Callable[[EndpointDocument | None], bool],
        *,
        timeout_s: float,
        poll_s: float = 0.25,
    ) -> EndpointDocument | None:
        """The endpoint's first state that `is_there` accepts; None stands for "no such endpoint".

        Goes on while the api is away for a moment. What `is_there` raises ends the wait.

        Raises:
            WaitTimeoutError: there was no such state within `timeout_s` seconds.
            ApiError: the api refused to show the endpoint (a wrong key, say).
        """
        seen: EndpointDocument | None = None
        deadline = CLOCK.monotonic() + timeout_s
        while (left_s := deadline - CLOCK.monotonic()) > 0:
            known, seen = await self._look(endpoint, seen, left_s)
            if known and is_there(seen):
                return seen
            await asyncio.sleep(max(0.0, min(poll_s, deadline - CLOCK.monotonic())))
        state = f"is {seen.state}" if seen else "was not seen"
        told = f" ({seen.message})" if seen and seen.message else ""
        raise WaitTimeoutError(f"after {timeout_s:g} s '{endpoint}' {state}{told}")

    async def wait_until_serving(self, endpoint: str, *, timeout_s: float) -> EndpointDocument:
        """The endpoint once it serves.

        Raises:
            NotServingError: it failed, or was paused or deleted.
            WaitTimeoutError: as for `wait_until`.
            ApiError: as for `wait_until`; 404 when there is no such endpoint.
        """

        def serves(seen: EndpointDocument | None) -> bool:
            if seen is None or seen.state in _NEVER_SERVING:
                return True
            return seen.state is EndpointState.SERVING

        found = await self.wait_until(endpoint, serves, timeout_s=timeout_s)
        if found is None:
            return await self.show(endpoint)  # raises the 404
        if found.state in _NEVER_SERVING:
            raise NotServingError(found)
        return found

    async def wait_until_gone(self, endpoint: str, *, timeout_s: float) -> None:
        """Wait until there is no such endpoint any more.

        Raises:
            WaitTimeoutError, ApiError: as for `wait_until`.
        """
        await self.wait_until(endpoint, lambda seen: seen is None, timeout_s=timeout_s)

    async def _do(
        self,
        endpoint: str,
        verb: str,
        document: Mapping[str, Any] | None = None,
        *,
        if_match: str | None,
    ) -> EndpointDocument:
        path = f"{path_of(endpoint)}/{verb}"
        return await self._transport.ask(
            EndpointDocument, "POST", path, document, if_match=if_match
        )

    async def _look(
        self, endpoint: str, last: EndpointDocument | None, within_s: float
    ) -> tuple[bool, EndpointDocument | None]:
        """(whether it is known how the endpoint is, how it is or was)."""
        path = path_of(endpoint)
        try:
            return True, await self._transport.ask(EndpointDocument, "GET", path, within_s=within_s)
        except ApiError as error:
            if error.status == 404:
                return True, None
            if error.status < 500:
                raise
        except UnreachableError:
            pass  # it may come back; the wait is bounded
        return False, last


def path_of(endpoint: str) -> str:
    """The path of one endpoint."""
    return f"{PATH}/{quoted(endpoint)}"
