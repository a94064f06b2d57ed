"""Who drives a worker, when that changes: no slot is given out twice by two drivers.

Theory of operation. The scheduler numbers a worker's drivers (`driver_epoch`, from 1). A new
driver does not know what its predecessors gave out; those who hold it do. So it claims the worker:
it asks every living router what it holds there (`Claim`, `Tally`), and gives out nothing until all
have told, or are dead.

Rule 1: who got a claim takes no slot of that worker from an earlier epoch, or from an earlier run
        of the same driver (`Reigns`); an offer under way is so void wherever it arrives later.
Rule 2: a predecessor that gets a claim stops giving out slots of the worker, and tells what its
        own clients hold, as everybody does, and to whom it lent.
Rule 3: a worker's first driver has nobody to ask, unless it has just started itself: an earlier
        run of it may have lent slots.
Rule 4: a living router that does not answer is waited for until `LIMIT_S`, and no longer.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from typing_extensions import override

#: Pause before a router that has not answered is asked again.
ASK_AGAIN_S: Final = 0.5
#: Longest wait for the answers to a claim. A dead router's record is gone before.
LIMIT_S: Final = 15.0


@dataclass(slots=True)
class _Claim:
    endpoint_id: str
    epoch: int
    begun_at: float
    settled: bool = False
    told: set[str] = field(default_factory=set)
    #: routers to which a predecessor lent slots
    lent_to: set[str] = field(default_factory=set)
    asked_at: dict[str, float] = field(default_factory=dict)


class Question(NamedTuple):
    """A claim to be sent to one router."""

    router_id: str
    worker_id: str
    endpoint_id: str
    epoch: int


@dataclass(slots=True)
class ClaimsPlan:
    """What is to be done about the claims now."""

    questions: list[Question] = field(default_factory=list)
    #: (worker, endpoint) whose slots may be given out from now on
    settled: list[tuple[str, str]] = field(default_factory=list)
    #: (worker, routers) that were settled although these living routers did not answer
    overdue: list[tuple[str, frozenset[str]]] = field(default_factory=list)


class Claims:
    """The workers that this router drives, and what it still has to learn of them."""

    def __init__(self, router_id: str) -> None:
        self._router_id = router_id
        self._claims: dict[str, _Claim] = {}

    @override
    def __repr__(self) -> str:
        n_settled = sum(claim.settled for claim in self._claims.values())
        return f"<Claims {n_settled} settled, {len(self._claims) - n_settled} open>"

    @property
    def open(self) -> bool:
        """Whether any claim waits for answers."""
        return any(not claim.settled for claim in self._claims.values())

    def knows(self, worker_id: str, epoch: int) -> bool:
        """Whether this reign has begun here."""
        claim = self._claims.get(worker_id)
        return claim is not None and claim.epoch == epoch

    def settled(self, worker_id: str, epoch: int) -> bool:
        """Whether slots of the worker may be given out under this epoch."""
        claim = self._claims.get(worker_id)
        return claim is not None and claim.epoch == epoch and claim.settled

    def begin(
        self, worker_id: str, endpoint_id: str, epoch: int, *, fresh: bool, now: float
    ) -> None:
        """This router's reign begins; `fresh` = nobody can hold a slot of the worker."""
        self._claims[worker_id] = _Claim(endpoint_id, epoch, now, settled=fresh)

    def end(self, worker_id: str) -> None:
        """Another router drives the worker, or it is gone."""
        self._claims.pop(worker_id, None)

    def workers(self) -> tuple[str, ...]:
        """Workers whose reign has begun here."""
        return tuple(self._claims)

    def told(
        self, router_id: str, worker_id: str, epoch: int, lent_to: Collection[str]
    ) -> str | None:
        """A router has told what it holds.

        Returns:
            The worker's endpoint; None when this is no answer to a claim of ours.
        """
        claim = self._claims.get(worker_id)
        if claim is None or claim.epoch != epoch:
            return None
        claim.told.add(router_id)
        claim.lent_to.update(lent_to)
        return claim.endpoint_id

    def plan(self, living: Collection[str], *, now: float) -> ClaimsPlan:
        """Whom to ask, and which claims are settled.

        Args:
            living: every router that is not surely dead.
            now: monotonic seconds.
        """
        plan = ClaimsPlan()
        for worker_id, claim in self._claims.items():
            if claim.settled:
                continue
            missing = {r for r in (*living, *claim.lent_to) if r in living} - claim.told
            missing.discard(self._router_id)
            if missing and now - claim.begun_at >= LIMIT_S:
                plan.overdue.append((worker_id, frozenset(missing)))
                missing = set()
            if not missing:
                claim.settled = True
                plan.settled.append((worker_id, claim.endpoint_id))
                continue
            for router_id in sorted(missing):
                if now - claim.asked_at.get(router_id, float("-inf")) >= ASK_AGAIN_S:
                    claim.asked_at[router_id] = now
                    plan.questions.append(
                        Question(router_id, worker_id, claim.endpoint_id, claim.epoch)
                    )
        return plan


@dataclass(slots=True)
class _Reign:
    epoch: int
    driver_id: str
    boot_id: str
    heard_at: float


class Reigns:
    """The latest driver of each worker that this router was told of."""

    def __init__(self) -> None:
        self._reigns: dict[str, _Reign] = {}

    def epoch(self, worker_id: str) -> int:
        """The latest epoch that was claimed or offered from; 0 = none yet."""
        reign = self._reigns.get(worker_id)
        return 0 if reign is None else reign.epoch

    def claim(
        self, worker_id: str, epoch: int, driver_id: str, boot_id: str, *, now: float
    ) -> bool:
        """A router claims the worker; False = there is a later driver, and nothing changed."""
        reign = self._reigns.get(worker_id)
        if reign is not None and epoch < reign.epoch:
            return False
        self._reigns[worker_id] = _Reign(epoch, driver_id, boot_id, now)
        return True

    def allows(
        self, worker_id: str, epoch: int, driver_id: str, boot_id: str, *, now: float
    ) -> bool:
        """Whether a slot that this run of a driver offers may be taken."""
        reign = self._reigns.get(worker_id)
        if reign is None or epoch > reign.epoch:
            self._reigns[worker_id] = _Reign(epoch, driver_id, boot_id, now)
            return True
        return (epoch, driver_id, boot_id) == (reign.epoch, reign.driver_id, reign.boot_id)

    def forget(self, known: Collection[str], *, now: float, after_s: float = 600.0) -> None:
        """Drop what is known of workers that are long gone."""
        for worker_id, reign in tuple(self._reigns.items()):
            if worker_id not in known and now - reign.heard_at >= after_s:
                del self._reigns[worker_id]
