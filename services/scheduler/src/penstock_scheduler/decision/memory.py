"""What one decision leaves for the next; a new leader begins with none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock_autoscaler.decide import ScaleMemory
from penstock_scheduler.placement.nodes import Booking
from penstock_scheduler.rollout.backoff import Backoff, recall
from penstock_scheduler.snapshot import Snapshot, Stage


@dataclass(frozen=True, slots=True)
class Age:
    """The stage in which a worker was seen last, and since when (monotonic seconds)."""

    stage: Stage
    since: float


@dataclass(frozen=True, slots=True)
class EndpointMemory:
    """What one decision on an endpoint leaves for the next."""

    scale: ScaleMemory = field(default_factory=ScaleMemory)
    backoff: Backoff = field(default_factory=Backoff)
    #: failed starts of a canary's stable revision
    stable_backoff: Backoff = field(default_factory=Backoff)
    #: worker → its age in its stage
    ages: Mapping[str, Age] = field(default_factory=lambda: MappingProxyType({}))
    #: failed workers that were counted and whose assignment is not gone yet
    noted: frozenset[str] = frozenset()
    #: desired number that was told last
    desired: int = 0
    #: since when its longest idle worker above `min` is idle (monotonic seconds); None = it has none
    spare_since: float | None = None
    #: revision → digest of the image that it runs
    pins: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))


def begin_memory(snapshot: Snapshot, endpoint_id: str) -> EndpointMemory:
    """What a leader that has no memory of an endpoint can tell from its written status."""
    status = snapshot.tables.endpoint_statuses.get(endpoint_id)
    return EndpointMemory(
        backoff=recall(status, now=snapshot.now, utc=snapshot.utc),
        desired=status.desired_workers if status else 0,
        pins=status.image_digests if status else {},
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision leaves for the next. Immutable; `Memory()` at first."""

    endpoints: Mapping[str, EndpointMemory] = field(default_factory=lambda: MappingProxyType({}))
    #: nodes whose loss was told
    lost_nodes: frozenset[str] = frozenset()
    #: drained nodes of which that was told; None = a new leader, to whom those that are it are no news
    drained_nodes: frozenset[str] | None = None
    #: worker key → what workers on lost nodes hold that nobody saw end
    unproven: Mapping[str, Booking] = field(default_factory=lambda: MappingProxyType({}))
    #: endpoints of which a worker found no place
    lacking: frozenset[str] = frozenset()
    #: endpoints of which a worker may not start for its owner's quota
    over_quota: frozenset[str] = frozenset()
