# Made by libs/client/make_sync.py of penstock_client/calls/nodes.py: change that one.
"""Calls about nodes."""

from collections.abc import Callable
from typing import Final

from penstock_client.api_requests import quoted
from penstock_client.documents import NodeDetail, NodeDocument, NodeList
from penstock_client.errors import (
    DrainEndedError,
    WaitTimeoutError,
)
from penstock_client.sync.calls.listing import Listing
from penstock_client.sync.calls.waiting import looks
from penstock_client.sync.transport import Transport
from penstock_common.states import NodeWish

PATH: Final = "/v1/nodes"


class NodeCalls:
    """Nodes, each named by its id."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Listing[NodeDocument, NodeList]:
        """The nodes that report, have workers, or have an order, by id."""
        return Listing(self._transport, PATH, NodeList, lambda page: page.nodes)

    def show(self, node: str) -> NodeDetail:
        """The node with this id, and its workers."""
        return self._transport.ask(NodeDetail, "GET", _path(node))

    def cordon(self, node: str, reason: str | None = None) -> NodeDetail:
        """The node, from now on taking no new worker; None = keep the reason it has."""
        document = {} if reason is None else {"reason": reason}
        return self._transport.ask(NodeDetail, "POST", f"{_path(node)}/cordon", document)

    def uncordon(self, node: str) -> NodeDetail:
        """The node, from now on taking workers."""
        return self._transport.ask(NodeDetail, "POST", f"{_path(node)}/uncordon")

    def drain(
        self, node: str, reason: str | None = None, *, deadline_s: float | None = None
    ) -> NodeDetail:
        """The node, from now on getting empty: its workers move elsewhere.

        Args:
            node: its id.
            reason: for people; None = keep the one it has.
            deadline_s: seconds after which workers that found no other place are drained all the
                same; None = keep the deadline it has, at first none.
        """
        document: dict[str, object] = {} if reason is None else {"reason": reason}
        if deadline_s is not None:
            document["deadline_s"] = deadline_s
        return self._transport.ask(NodeDetail, "POST", f"{_path(node)}/drain", document)

    def wait_until_drained(
        self,
        node: str,
        *,
        timeout_s: float,
        tell: Callable[[NodeDetail], None] | None = None,
        poll_s: float = 0.5,
    ) -> NodeDetail:
        """The node once it is drained, or is gone with all its workers.

        Goes on while the api is away for a moment; `tell` is given each look.

        Raises:
            DrainEndedError: somebody took the order to drain back.
            WaitTimeoutError: it was not drained within `timeout_s` seconds.
            ApiError: the api refused; 404 when there is no such node.
        """
        last: NodeDetail | None = None
        path, transport = _path(node), self._transport
        for seen in looks(transport, NodeDetail, path, timeout_s=timeout_s, poll_s=poll_s):
            if seen is None:
                return self.show(node)  # raises the 404
            if tell is not None:
                tell(seen)
            if seen.order is None or seen.order.wish is not NodeWish.DRAINING:
                raise DrainEndedError(f"'{node}' is no longer to drain")
            if not seen.workers:
                return seen
            last = seen
        left = f" has {len(last.workers)} workers left" if last else " was not seen"
        raise WaitTimeoutError(f"after {timeout_s:g} s '{node}'{left}")


def _path(node: str) -> str:
    return f"{PATH}/{quoted(node)}"
