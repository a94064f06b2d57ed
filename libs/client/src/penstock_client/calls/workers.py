"""Calls about workers."""

from collections.abc import AsyncGenerator

from penstock_client.calls.endpoints import path_of
from penstock_client.calls.listing import Listing
from penstock_client.calls.logs import LogDocument, follow_logs
from penstock_client.documents import WorkerDocument, WorkerList
from penstock_client.transport import Transport, quoted


class WorkerCalls:
    """Workers of an endpoint, which is named by its id or its `app_name`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, endpoint: str) -> Listing[WorkerDocument, WorkerList]:
        """The workers of one endpoint, oldest first."""
        path = f"{path_of(endpoint)}/workers"
        return Listing(self._transport, path, WorkerList, lambda page: page.workers)

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
