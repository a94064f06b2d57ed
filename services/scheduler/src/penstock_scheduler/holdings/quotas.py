"""How many workers and GPUs the endpoints of one API key may hold [pure].

What counts is what is held: every worker from its assignment until its node has proved its end,
those that drain or stop included; with a lost node its workers are given up, and count no more.
So a quota is never exceeded by a start. One that is lowered ends no worker: it only lets none
start until enough have gone.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from penstock_common.messages import ApiKeyRecord, EndpointRecord


class Held(NamedTuple):
    """What is held: by one worker, or by several together."""

    workers: int = 0
    gpus: int = 0

    def plus(self, other: "Held") -> "Held":
        """Both together."""
        return Held(self.workers + other.workers, self.gpus + other.gpus)

    def minus(self, other: "Held") -> "Held":
        """This without the other."""
        return Held(self.workers - other.workers, self.gpus - other.gpus)


class Holders:
    """Who holds how much where, kept from one decision to the next."""

    def __init__(self) -> None:
        """Nobody holds anything."""
        #: owner → node → what the owner's workers hold there
        self._of: dict[str, dict[str, Held]] = {}
        self._total: dict[str, Held] = {}

    def take(self, owner: str, node_id: str, gpus: int) -> None:
        """One more worker with so many GPUs is held there."""
        self._put(owner, node_id, Held(1, gpus))

    def release(self, owner: str, node_id: str, gpus: int) -> None:
        """One worker with so many GPUs is held there no more."""
        self._put(owner, node_id, Held(-1, -gpus))

    def held_by(self, owner: str, *, without: Iterable[str] = ()) -> Held:
        """What an owner holds, but for what is on these nodes."""
        held, nodes = self._total.get(owner, Held()), self._of.get(owner, {})
        for node_id in without:
            held = held.minus(nodes.get(node_id, Held()))
        return held

    def _put(self, owner: str, node_id: str, change: Held) -> None:
        nodes = self._of.setdefault(owner, {})
        nodes[node_id] = nodes.get(node_id, Held()).plus(change)
        self._total[owner] = self._total.get(owner, Held()).plus(change)
        if not nodes[node_id].workers:
            del nodes[node_id]
        if not nodes:
            del self._of[owner], self._total[owner]


class Quotas:
    """What the endpoints of each key may hold, and do, in the making of one plan."""

    def __init__(
        self, keys: Mapping[str, ApiKeyRecord], holders: Holders, lost_nodes: Iterable[str]
    ) -> None:
        """The quotas of these keys; `holders` is asked anew each time, for it may change."""
        self._keys = keys
        self._holders = holders
        self._lost_nodes = lost_nodes
        self._released: dict[str, Held] = {}

    def release(self, owner: str | None, gpus: int) -> None:
        """Count as if one worker with so many GPUs were held no more."""
        if owner is not None:
            self._released[owner] = self._released.get(owner, Held()).plus(Held(1, gpus))

    def room(self, record: EndpointRecord) -> int | None:
        """How many more workers this endpoint may start; None = as many as it likes."""
        key = self._keys.get(record.owner) if record.owner is not None else None
        if key is None:
            return None
        held, each = self._held_by(key.key_id), record.spec.gpu.count
        rooms = []
        if key.max_workers is not None:
            rooms.append(key.max_workers - held.workers)
        if key.max_gpus is not None and each:
            rooms.append((key.max_gpus - held.gpus) // each)
        return max(0, min(rooms)) if rooms else None

    def explain(self, record: EndpointRecord) -> str:
        """Why this endpoint, which has no room, may start no more; one sentence."""
        assert record.owner is not None, "only a key has a quota"
        key, each = self._keys[record.owner], record.spec.gpu.count
        held = self._held_by(key.key_id)
        who = f"API key {key.key_id}" + (f" ({key.name})" if key.name else "")
        if key.max_workers is not None and held.workers >= key.max_workers:
            return f"{who} may hold {_count(key.max_workers, 'worker')} and holds {held.workers}"
        assert key.max_gpus is not None
        needs = "" if each == 1 else f"; a worker needs {each}"
        return f"{who} may hold {_count(key.max_gpus, 'GPU')} and holds {held.gpus}{needs}"

    def _held_by(self, owner: str) -> Held:
        held = self._holders.held_by(owner, without=self._lost_nodes)
        return held.minus(self._released.get(owner, Held()))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
