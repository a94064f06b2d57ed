"""How many workers and GPUs the endpoints of one API key may hold [pure].

What counts is what is held: every worker from its assignment until its node has proved its end,
those that drain or stop included; with a lost node its workers are given up, and count no more.
So a quota is never exceeded by a start. One that is lowered ends no worker: it only lets none
start until enough have gone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from penstock_common.messages import ApiKeyRecord, EndpointRecord
from penstock_scheduler.snapshot import Stage, Worker


@dataclass(slots=True)
class _Held:
    workers: int = 0
    gpus: int = 0

    def add(self, gpus: int) -> None:
        self.workers += 1
        self.gpus += gpus


class Quotas:
    """What the endpoints of each key hold, in the making of one plan."""

    def __init__(self, keys: Mapping[str, ApiKeyRecord], workers: Iterable[Worker]) -> None:
        """The quotas of these keys, with these workers held."""
        self._keys = keys
        self._held: dict[str, _Held] = {}
        for worker in workers:
            if worker.stage is not Stage.ENDED:
                self.take(worker.assignment.owner, len(worker.assignment.gpus))

    def take(self, owner: str | None, gpus: int) -> None:
        """One more worker with so many GPUs is held."""
        if owner is not None:
            self._held.setdefault(owner, _Held()).add(gpus)

    def release(self, owner: str | None, gpus: int) -> None:
        """One worker with so many GPUs is held no more."""
        if owner is not None:
            held = self._held[owner]
            held.workers -= 1
            held.gpus -= gpus

    def room(self, record: EndpointRecord) -> int | None:
        """How many more workers this endpoint may start; None = as many as it likes."""
        key = self._keys.get(record.owner) if record.owner is not None else None
        if key is None:
            return None
        held, each = self._held.get(key.key_id, _Held()), record.spec.gpu.count
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
        held = self._held.get(key.key_id, _Held())
        who = f"API key {key.key_id}" + (f" ({key.name})" if key.name else "")
        if key.max_workers is not None and held.workers >= key.max_workers:
            return f"{who} may hold {_count(key.max_workers, 'worker')} and holds {held.workers}"
        assert key.max_gpus is not None
        needs = "" if each == 1 else f"; a worker needs {each}"
        return f"{who} may hold {_count(key.max_gpus, 'GPU')} and holds {held.gpus}{needs}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
