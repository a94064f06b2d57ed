"""Nodes by what they have left, so that a place is found without looking at every node.

Theory of operation. Whether a worker fits a node, and how well, depends on few things: the node's
runtime, CUDA version, labels, whether it takes workers (its *kind*), and for each product how many
GPUs it has and how many are free in each link group. Nodes that agree in these form a *group*; a fleet of any size has
some dozens. So fit is worked out once per group. Within a group nodes differ in who goes first
(fewest workers, then its turn: a heap), in having the image, and in running workers of the same
endpoint, and in the disk that is left, which is looked at last: it seldom decides, and a group knows
the most that any of its nodes had left. The other two have heaps of their own, per image that was asked for and per endpoint, so
that the best of each sort is at a heap's top. A turn is a hash of the name: so an endpoint's own
nodes lie anywhere in a heap, and a few looks find one that is not, if there are any to speak of.

Heaps are cleaned when they are read: an entry counts while its node still stands in that group with
that number of workers. A change of a node pushes it anew into the few heaps it belongs to. A fleet is
kept and told of each change; when it has grown by too many entries it is to be made anew (`worn`).
"""

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from penstock_common.messages import NodeRecord
from penstock_common.states import NodeState
from penstock_scheduler.placement.nodes import (
    NO_GPU,
    NONE_CLOSED,
    Booking,
    Group,
    Heap,
    Kind,
    Node,
    alike,
    empty_node,
)

#: A fleet is worn when it has taken so many entries for each node.
_ENTRIES_PER_NODE: Final = 50


class Fleet:
    """The nodes, grouped; `take` and `release` book."""

    def __init__(
        self,
        nodes: Iterable[NodeRecord],
        booked: Iterable[Booking],
        closed: Mapping[str, NodeState] = NONE_CLOSED,
    ) -> None:
        """A fleet with everything in `booked` taken; `closed`: nodes that take no new worker."""
        self.nodes: dict[str, Node] = {}
        #: kind → how many nodes
        self.kinds: dict[Kind, int] = {}
        self._groups: dict[str, dict[tuple[Kind, int, tuple[int, ...]], Group]] = {}
        self._with_image: dict[str, set[str]] = {}
        #: image → group → members that have it
        self._image_heaps: dict[str, dict[Group, Heap]] = {}
        #: endpoint → (group, its workers on the node) → members
        self._own_heaps: dict[str, dict[tuple[Group, int], Heap]] = {}
        self._own_counts: dict[str, set[int]] = {}
        self._entries = 0
        for record in nodes:
            self._add(record, closed.get(record.node_id))
        for booking in booked:
            if found := self.nodes.get(booking.node_id):
                found.book(booking)
        for node in self.nodes.values():
            self._settle(node)

    @property
    def worn(self) -> bool:
        """Whether to make a new one instead of keeping this one."""
        return self._entries > _ENTRIES_PER_NODE * (len(self.nodes) + 100)

    def put_node(self, record: NodeRecord, closed: NodeState | None = None) -> bool:
        """Add or replace a node; what is booked on it stays.

        Args:
            record: its heartbeat.
            closed: why it takes no new worker; None = it does.

        Returns:
            Whether anything that placing asks is another than before.
        """
        before = self.nodes.get(record.node_id)
        if (
            before is not None
            and before.kind.closed is closed
            and (before.record is record or alike(before.record, record))
        ):
            before.record = record
            for group in before.groups.values():
                group.disk_most_bytes = max(group.disk_most_bytes, before.disk_left_bytes)
            return False
        if before is not None:
            self._remove(before)
        node = self._add(record, closed)
        if before is not None:
            for booking in before.booked.elements():
                node.book(booking)
        self._settle(node)
        return True

    def drop_node(self, node_id: str) -> None:
        """Forget a node, and what is booked on it."""
        if node := self.nodes.get(node_id):
            self._remove(node)

    def take(self, booking: Booking) -> None:
        """Book what a worker holds of its node, if that is one of these."""
        if node := self.nodes.get(booking.node_id):
            node.book(booking)
            self._settle(node)

    def release(self, booking: Booking) -> None:
        """Give back what a worker held."""
        if node := self.nodes.get(booking.node_id):
            node.release(booking)
            self._settle(node)

    def products(self) -> Iterable[str]:
        """Products of which a node has GPUs."""
        return [product for product in self._groups if product != NO_GPU]

    def groups(self, product: str) -> Iterable[Group]:
        """Groups with members, of this product."""
        return [group for group in self._groups.get(product, {}).values() if group.size]

    def has_image(self, node: Node, image: str | None) -> bool:
        """Whether the image is on the node."""
        return image is not None and node.record.node_id in self._with_image.get(image, ())

    def members(
        self, group: Group, last: Callable[[Node], bool], *, most: int, disk_bytes: int = 0
    ) -> list[Node]:
        """Nodes of a group, who goes first first, up to the one that is the `last`.

        Args:
            group: the group.
            last: whether a node ends the search.
            most: so many at most.
            disk_bytes: nodes with less disk left are passed over.
        """
        found = self._read(group.heap, group, last, most=most, disk_bytes=disk_bytes)
        if disk_bytes and not found:
            # All were looked at. Until one has more left, nobody needs to look again.
            left = (self.nodes[e[2]].disk_left_bytes for e in group.heap)
            group.disk_most_bytes = max(left, default=-math.inf)
        return found

    def members_with_image(
        self,
        group: Group,
        image: str | None,
        last: Callable[[Node], bool],
        *,
        most: int,
        disk_bytes: int = 0,
    ) -> list[Node]:
        """Those that have this image."""
        if image is None or image not in self._with_image:
            return []
        if image not in self._image_heaps:
            self._ask_for(image)
        heap = self._image_heaps[image].get(group)
        if not heap:
            return []
        return self._read(heap, group, last, most=most, disk_bytes=disk_bytes)

    def members_of(
        self,
        group: Group,
        endpoint_id: str,
        last: Callable[[Node], bool],
        *,
        most: int,
        disk_bytes: int = 0,
    ) -> list[Node]:
        """Those that run workers of this endpoint: for each number of them, `most` at most."""
        heaps = self._own_heaps.get(endpoint_id)
        if not heaps:
            return []
        found: list[Node] = []
        for n in self._own_counts[endpoint_id]:
            if heap := heaps.get((group, n)):
                own = (endpoint_id, n)
                found += self._read(heap, group, last, most=most, own=own, disk_bytes=disk_bytes)
        return found

    # ---- inner

    def _add(self, record: NodeRecord, closed: NodeState | None) -> Node:
        """A node with nothing booked, not settled yet."""
        node = empty_node(record, closed)
        self.nodes[record.node_id] = node
        self.kinds[node.kind] = self.kinds.get(node.kind, 0) + 1
        for image in record.images:
            self._with_image.setdefault(image, set()).add(record.node_id)
            if image in self._image_heaps:
                node.asked.append(image)
        return node

    def _remove(self, node: Node) -> None:
        del self.nodes[node.record.node_id]
        self.kinds[node.kind] -= 1
        if not self.kinds[node.kind]:
            del self.kinds[node.kind]
        for image in node.record.images:
            self._with_image[image].discard(node.record.node_id)
        for group in node.groups.values():
            group.size -= 1

    def _settle(self, node: Node) -> None:
        """Put a node into the groups and heaps where it belongs now."""
        entry = (node.n_workers, node.turn, node.record.node_id)
        self._entries += (len(node.all) + 1) * (1 + len(node.asked) + len(node.workers))
        for product in (*node.all, NO_GPU):
            n_free = len(node.free.get(product, ()))
            split = node.links_left(product)
            key = (node.kind, len(node.all.get(product, ())), split)
            of_product = self._groups.setdefault(product, {})
            group = of_product.get(key)
            if group is None:
                vram = dict(node.kind.vram_bytes).get(product, 0)
                group = of_product[key] = Group(node.kind, product, key[1], split, n_free, vram)
            before = node.groups.get(product)
            if before is not group:
                if before is not None:
                    before.size -= 1
                group.size += 1
                node.groups[product] = group
            group.disk_most_bytes = max(group.disk_most_bytes, node.disk_left_bytes)
            heapq.heappush(group.heap, entry)
            for image in node.asked:
                heapq.heappush(self._image_heaps[image].setdefault(group, []), entry)
            for endpoint_id, n in node.workers.items():
                heaps = self._own_heaps.setdefault(endpoint_id, {})
                self._own_counts.setdefault(endpoint_id, set()).add(n)
                heapq.heappush(heaps.setdefault((group, n), []), entry)

    def _ask_for(self, image: str) -> None:
        heaps: dict[Group, Heap] = {}
        self._image_heaps[image] = heaps
        for node_id in self._with_image[image]:
            node = self.nodes[node_id]
            node.asked.append(image)
            for group in node.groups.values():
                heaps.setdefault(group, []).append((node.n_workers, node.turn, node_id))
        for heap in heaps.values():
            heapq.heapify(heap)

    def _read(
        self,
        heap: Heap,
        group: Group,
        last: Callable[[Node], bool],
        *,
        most: int,
        own: tuple[str, int] | None = None,
        disk_bytes: int = 0,
    ) -> list[Node]:
        """Members in order, up to the last or `most`; drops entries that are out of date."""
        found: list[Node] = []
        read: Heap = []
        while heap and len(found) < most:
            node_id = heap[0][2]
            node = self.nodes.get(node_id)
            if node is None:
                heapq.heappop(heap)
                continue
            current = (
                heap[0][0] == node.n_workers
                and node.groups.get(group.product) is group
                and (own is None or node.workers.get(own[0]) == own[1])
                # the same twice: it left the group and came back
                and not (read and read[-1] == heap[0])
            )
            if not current:
                heapq.heappop(heap)
                continue
            if disk_bytes and node.disk_left_bytes < disk_bytes:
                read.append(heapq.heappop(heap))
                continue
            found.append(node)
            if last(node):
                break
            read.append(heapq.heappop(heap))
        for entry in read:
            heapq.heappush(heap, entry)
        return found
