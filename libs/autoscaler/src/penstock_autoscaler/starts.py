"""How long a start takes, learnt from the starts of the same endpoint.

Kept per phase: the mean time from reaching it until requests are taken. So a worker whose image is
on the node already, or that loads its model, is expected when such workers came before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from penstock_autoscaler.load import Starting
from penstock_common.states import Phase

#: What a start is thought to take before one was seen.
UNKNOWN_START_S: Final = 10.0
#: Weight of the last start in the mean of past starts.
_NEWEST: Final = 0.5
#: The phase from which on a start is counted as a whole.
_BEGIN: Final = Phase.RECEIVED


@dataclass(frozen=True, slots=True)
class StartTimes:
    """Past starts of one endpoint. Immutable; `StartTimes()` = none seen."""

    #: phase → mean seconds from reaching it to readiness
    rest_s: Mapping[Phase, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def known(self) -> bool:
        """Whether a start was seen."""
        return _BEGIN in self.rest_s

    @property
    def whole_s(self) -> float:
        """Usual seconds from assignment to readiness."""
        return self.rest_s.get(_BEGIN, UNKNOWN_START_S)

    def learn(self, rest_s: Mapping[Phase, float]) -> "StartTimes":
        """With one more start: phase → seconds from reaching it to readiness."""
        learnt = dict(self.rest_s)
        for phase, seconds in rest_s.items():
            before = learnt.get(phase)
            mean_s = seconds if before is None else before + _NEWEST * (seconds - before)
            learnt[phase] = max(0.0, mean_s)
        return StartTimes(MappingProxyType(learnt))

    def ready_in_s(self, worker: Starting) -> float:
        """Seconds until a starting worker is expected to take requests.

        One that is overdue by x is expected in another x: the later it is, the less it counts.
        """
        rest_s = self.rest_s.get(worker.phase)
        if rest_s is None:
            return abs(self.whole_s - worker.age_s)
        return abs(rest_s - worker.since_phase_s)
