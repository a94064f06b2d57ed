"""What the autoscaler knows of one endpoint at one instant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock_common.states import Phase


@dataclass(frozen=True, slots=True)
class Starting:
    """A worker that is on its way."""

    #: seconds since its assignment
    age_s: float
    #: the last phase that its node has told of
    phase: Phase = Phase.RECEIVED
    #: seconds since it reached that phase
    phase_age_s: float | None = None

    @property
    def since_phase_s(self) -> float:
        """Seconds since it reached `phase`; that is its age while nothing was told."""
        return self.age_s if self.phase_age_s is None else self.phase_age_s


@dataclass(frozen=True, slots=True)
class Load:
    """The queue of one endpoint, and the workers that take or will take its requests."""

    waiting: int = 0
    #: seconds
    oldest_wait_s: float = 0.0
    in_flight: int = 0
    #: router → its counter of arrivals; a counter that fell was started anew
    arrivals: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    #: mean seconds from dispatch to the response's end; None = not measured yet
    service_time_s: float | None = None
    #: workers that take requests
    running: int = 0
    #: workers that run and do not take requests yet
    unready: int = 0
    #: slots of running workers that are free: so many waiting requests are as good as dispatched
    free_slots: int = 0
    starting: tuple[Starting, ...] = ()

    @property
    def workers(self) -> int:
        """Workers that run or start."""
        return self.running + self.unready + len(self.starting)
