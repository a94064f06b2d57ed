"""Calls about workers."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from penstock_client.api_requests import quoted
from penstock_client.calls.endpoints import path_of
from penstock_client.calls.listing import Listing
from penstock_client.calls.logs import LogDocument, follow_logs
from penstock_client.calls.waiting import looks
from penstock_client.documents import WorkerDocument, WorkerList
from penstock_client.errors import WaitTimeoutError
from penstock_client.transport import Transport
from penstock_common.states import WorkerState

PATH: Final = "/v1/workers"


class WorkerCalls:
    """Workers, each named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        endpoint: str | None = None,
        *,
        node: str | None = None,
        state: WorkerState | None = None,
        page_size: int | None = None,
    ) -> Listing[WorkerDocument, WorkerList]:
        """Workers, oldest first.

        Args:
            endpoint: only those of this one (id or `app_name`); None = of all.
            node: only those on this node; None = on any.
            state: only those in this state; None = in any.
            page_size: how many are fetched at once, 1 to 1000; None = 1000.
        """
        query = {"endpoint": endpoint, "node": node, "state": state, "limit": page_size}
        return Listing(self._transport, PATH, WorkerList, lambda page: page.workers, query)

    async def show(self, worker: str) -> WorkerDocument:
        """The worker with this id; 404 once it is gone."""
        return await self._transport.ask(WorkerDocument, "GET", _path(worker))

    async def stop(
        self, worker: str, reason: str | None = None, *, deadline_s: float | None = None
    ) -> WorkerDocument:
        """The worker, which takes nothing new from now on and stops once it is idle.

        Another one starts if its endpoint needs one.

        Args:
            worker: its id.
            reason: for people; None = keep the one it has.
            deadline_s: seconds after which it is stopped though requests are in flight; None =
                keep the deadline it has, at first none.
        """
        document: dict[str, object] = {} if reason is None else {"reason": reason}
        if deadline_s is not None:
            document["deadline_s"] = deadline_s
        return await self._transport.ask(WorkerDocument, "POST", f"{_path(worker)}/stop", document)

    async def wait_until_gone(
        self,
        worker: str,
        *,
        timeout_s: float,
        tell: Callable[[WorkerDocument], Awaitable[None]] | None = None,
        poll_s: float = 0.5,
    ) -> None:
        """Nothing, once there is no such worker any more.

        Goes on while the api is away for a moment; `tell` is given each look.

        Raises:
            WaitTimeoutError: it was still there after `timeout_s` seconds.
            ApiError: the api refused.
        """
        path, transport = _path(worker), self._transport
        async for seen in looks(
            transport, WorkerDocument, path, timeout_s=timeout_s, poll_s=poll_s
        ):
            if seen is None:
                return
            if tell is not None:
                await tell(seen)
        raise WaitTimeoutError(f"after {timeout_s:g} s worker '{worker}' is still there")

    def logs(
        self, endpoint: str, worker: str, *, follow: bool = False, tail: int | None = None
    ) -> AsyncGenerator[LogDocument, None]:
        """Lines of one worker, ended or not, and the word of those that are missing.

        It goes on over connections that break, and ends with a `LogEndDocument`.

        Args:
            endpoint: id or `app_name`.
            worker: its id.
            follow: whether to go on when all that there is has come.
            tail: begin with the last lines, so many; None = with the first that there is.

        Raises:
            ApiError: the api refused (404: there was no such worker), while iterating.
            UnreachableError: it could not be reached for a minute, while iterating.
        """
        path = f"{path_of(endpoint)}/workers/{quoted(worker)}"
        return follow_logs(self._transport, path, follow=follow, tail=tail)


def _path(worker: str) -> str:
    return f"{PATH}/{quoted(worker)}"
