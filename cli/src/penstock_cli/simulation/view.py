"""What a scaler sees of a simulated endpoint, and what it may order."""

from dataclasses import dataclass, field
from typing import Protocol

from penstock_common.specs import EndpointSpec


@dataclass(slots=True, eq=False)
class SimWorker:
    """A simulated worker."""

    number: int
    started_at: float
    ready_at: float
    ready: bool = False
    draining: bool = False
    in_flight: int = 0
    #: when its last request ended, or it became ready
    idle_since: float = 0.0
    #: counter of picks when it was last picked
    picked: int = 0


@dataclass(slots=True)
class View:
    """The endpoint now. Only the engine changes it."""

    spec: EndpointSpec
    now: float = 0.0
    waiting: int = 0
    oldest_wait_s: float = 0.0
    in_flight: int = 0
    arrivals: int = 0
    #: decayed mean as the router keeps it; None = no request has ended
    service_time_s: float | None = None
    #: ∫ (waiting + in flight) dt since the beginning
    load_integral: float = 0.0
    #: workers that take requests or will
    workers: list[SimWorker] = field(default_factory=list)
    #: of them, those that take requests
    running: int = 0

    @property
    def load(self) -> int:
        """Requests that wait or are at a worker."""
        return self.waiting + self.in_flight


@dataclass(frozen=True, slots=True)
class Orders:
    """What a scaler wants done now."""

    start: int = 0
    #: workers that take nothing new and end with their last request
    stop: tuple[SimWorker, ...] = ()


class Scaler(Protocol):
    """A policy. It may keep a memory; a new one is made for each run."""

    #: as shown
    name: str
    #: where its formula is published
    source: str
    #: how often it is asked, in seconds, and how often while requests wait
    period_s: float
    waiting_period_s: float

    def decide(self, view: View) -> Orders:
        """What to do now. The first request that waits has it asked at once."""

    def note_start(self, view: View, took_s: float) -> None:
        """A worker has become ready, so long after it was ordered."""


def scale_to(view: View, desired: int) -> Orders:
    """Orders that lead to so many workers, within the endpoint's limits.

    Who goes: those that only start, then the longest idle, then the least busy. (What Kubernetes
    deletes first among ready pods is close to chance; this is kinder.)
    """
    limits = view.spec.workers
    desired = min(max(desired, limits.min), limits.max)
    surplus = len(view.workers) - desired
    if surplus <= 0:
        return Orders(start=-surplus)
    order = sorted(view.workers, key=lambda w: (w.ready, w.in_flight, w.idle_since, w.number))
    return Orders(stop=tuple(order[:surplus]))
