# Made by libs/client/make_sync.py of penstock_client/calls/endpoints.py: change that one.
"""Calls about endpoints."""

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final

from penstock_client.api_requests import quoted, with_query
from penstock_client.documents import (
    DecisionList,
    EndpointDocument,
    EndpointList,
    EndpointMetrics,
    PlanDocument,
    RevisionList,
)
from penstock_client.errors import (
    NotServingError,
    WaitTimeoutError,
)
from penstock_client.sync.calls.listing import Listing
from penstock_client.sync.calls.logs import LogDocument, follow_logs
from penstock_client.sync.calls.waiting import looks
from penstock_client.sync.endpoint_caller import EndpointSyncCaller
from penstock_client.sync.transport import Transport
from penstock_common.states import EndpointState

PATH: Final = "/v1/endpoints"
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

    def create(
        self, document: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> EndpointDocument:
        """The new endpoint made from this document (docs/http-api.md).

        Sent again with the same `idempotency_key` within a day, it makes no second one and is
        answered with the first. None = a fresh key for this call and what the client repeats of it.
        """
        return self._transport.ask(
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

    def show(self, endpoint: str) -> EndpointDocument:
        """The endpoint with this id or `app_name`."""
        return self._transport.ask(EndpointDocument, "GET", path_of(endpoint))

    def update(
        self, endpoint: str, patch: Mapping[str, Any], *, if_match: str | None = None
    ) -> EndpointDocument:
        """The endpoint after a JSON merge patch (RFC 7396)."""
        return self._transport.ask(
            EndpointDocument, "PATCH", path_of(endpoint), patch, if_match=if_match
        )

    def plan(self, app_name: str, document: Mapping[str, Any]) -> PlanDocument:
        """What `replace` of this document would change; nothing is done.

        Its `etag` is that of the endpoint as it is, unless the plan `creates` it.
        """
        path = f"{path_of(app_name)}/plan"
        return self._transport.ask(PlanDocument, "POST", path, document)

    def replace(
        self,
        app_name: str,
        document: Mapping[str, Any],
        *,
        if_match: str | None = None,
        only_new: bool = False,
    ) -> EndpointDocument:
        """The endpoint, made or changed to be as this whole document says (docs/deploy.md).

        Args:
            app_name: or the id of one that there is.
            document: what it leaves out has its default afterwards; secrets stay.
            if_match: as of every change.
            only_new: it is made, or refused (412) if there is such an endpoint already.
        """
        return self._transport.ask(
            EndpointDocument,
            "PUT",
            path_of(app_name),
            document,
            if_match=if_match,
            only_new=only_new,
        )

    def delete(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint, from now on `deleting`; safe to repeat until it is gone."""
        return self._transport.ask(EndpointDocument, "DELETE", path_of(endpoint), if_match=if_match)

    def pause(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint, from now on kept at 0 workers."""
        return self._do(endpoint, "pause", if_match=if_match)

    def resume(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint, no longer paused."""
        return self._do(endpoint, "resume", if_match=if_match)

    def decisions(self, endpoint: str) -> DecisionList:
        """The autoscaler's last decisions on one endpoint, newest first."""
        path = f"{path_of(endpoint)}/decisions"
        return self._transport.ask(DecisionList, "GET", path)

    def metrics(
        self, endpoint: str, *, window_s: int | None = None, step_s: int | None = None
    ) -> EndpointMetrics:
        """The endpoint's load, now and in the last hour.

        Args:
            endpoint: id or `app_name`.
            window_s: seconds to look back, a multiple of 10; None = an hour.
            step_s: seconds of a point, a multiple of 10; None = about 60 points.
        """
        query = {"window": window_s, "step": step_s}
        path = with_query(f"{path_of(endpoint)}/metrics", query)
        return self._transport.ask(EndpointMetrics, "GET", path)

    def revisions(self, endpoint: str) -> RevisionList:
        """The endpoint's last revisions, newest first, each with what it changed."""
        path = f"{path_of(endpoint)}/revisions"
        return self._transport.ask(RevisionList, "GET", path)

    def roll_back(
        self, endpoint: str, revision: int | None = None, *, if_match: str | None = None
    ) -> EndpointDocument:
        """The endpoint, from now on with what that revision ran; None = the one before."""
        return self._do(endpoint, "rollback", {"revision": revision}, if_match=if_match)

    def share_traffic(
        self,
        endpoint: str,
        percent: int,
        change: Mapping[str, Any] | None = None,
        *,
        if_match: str | None = None,
    ) -> EndpointDocument:
        """The endpoint with a canary that gets `percent` of the requests; `change` begins one."""
        document = {"percent": percent, "change": change}
        return self._do(endpoint, "canary", document, if_match=if_match)

    def promote(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint, whose canary gets all requests from now on."""
        return self._do(endpoint, "promote", if_match=if_match)

    def abort(self, endpoint: str, *, if_match: str | None = None) -> EndpointDocument:
        """The endpoint without its canary: what ran before it gets all requests."""
        return self._do(endpoint, "abort", if_match=if_match)

    def logs(
        self, endpoint: str, *, follow: bool = False, tail: int | None = None
    ) -> Generator[LogDocument, None, None]:
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

    def caller(self, endpoint: str) -> EndpointSyncCaller:
        """What calls this endpoint at the router, with the client's key and connections.

        A key of scope `invoke` may call endpoints and ask the api nothing: with one, make an
        `EndpointSyncCaller` of the endpoint's URL.
        """
        return self._transport.caller((self.show(endpoint)).url)

    def wait_until(
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
        last: EndpointDocument | None = None
        path, transport = path_of(endpoint), self._transport
        for seen in looks(transport, EndpointDocument, path, timeout_s=timeout_s, poll_s=poll_s):
            if is_there(seen):
                return seen
            last = seen
        state = f"is {last.state}" if last else "was not seen"
        told = f" ({last.message})" if last and last.message else ""
        raise WaitTimeoutError(f"after {timeout_s:g} s '{endpoint}' {state}{told}")

    def wait_until_serving(self, endpoint: str, *, timeout_s: float) -> EndpointDocument:
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

        found = self.wait_until(endpoint, serves, timeout_s=timeout_s)
        if found is None:
            return self.show(endpoint)  # raises the 404
        if found.state in _NEVER_SERVING:
            raise NotServingError(found)
        return found

    def wait_until_gone(self, endpoint: str, *, timeout_s: float) -> None:
        """Wait until there is no such endpoint any more.

        Raises:
            WaitTimeoutError, ApiError: as for `wait_until`.
        """
        self.wait_until(endpoint, lambda seen: seen is None, timeout_s=timeout_s)

    def _do(
        self,
        endpoint: str,
        verb: str,
        document: Mapping[str, Any] | None = None,
        *,
        if_match: str | None,
    ) -> EndpointDocument:
        path = f"{path_of(endpoint)}/{verb}"
        return self._transport.ask(EndpointDocument, "POST", path, document, if_match=if_match)


def path_of(endpoint: str) -> str:
    """The path of one endpoint."""
    return f"{PATH}/{quoted(endpoint)}"
