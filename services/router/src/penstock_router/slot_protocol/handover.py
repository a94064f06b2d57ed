"""Workers that change their driver: claims of this router, and of others.

The rules stand in `claims.py`; here they are carried out over the wire.
"""

import logging
from collections.abc import Callable, Collection

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.messages import Claim, Tally
from penstock_router.catalogue import Catalogue, WorkerView
from penstock_router.dispatch import Dispatcher
from penstock_router.lanes import Lane
from penstock_router.slot_protocol.claims import Claims, Reigns
from penstock_router.slot_protocol.lender import Lender
from penstock_router.slot_protocol.wire import Wire

logger = logging.getLogger(__name__)


class Handover:
    """Whether this router may give out slots of a worker, and what it tells others who may."""

    def __init__(
        self,
        wire: Wire,
        dispatcher: Dispatcher,
        lender: Lender,
        reigns: Reigns,
        *,
        catalogue: Catalogue,
        clock: Clock,
        boot_id: str,
        living: Callable[[], Collection[str] | None],
        on_settled: Callable[[str], None],
    ) -> None:
        """Nothing is claimed.

        Args:
            wire: to other routers.
            dispatcher: has the slots.
            lender: has those that others hold.
            reigns: who drove each worker last.
            catalogue: has the assignments.
            clock: for questions that are repeated.
            boot_id: names this run of the process.
            living: every router that is not surely dead; None = that cannot be told now.
            on_settled: told the endpoint of a worker whose slots may be given out, or that another
                router claimed.
        """
        self._wire = wire
        self._dispatcher = dispatcher
        self._router_id = dispatcher.router_id
        self._lender = lender
        self._reigns = reigns
        self._catalogue = catalogue
        self._clock = clock
        self._boot_id = boot_id
        self._living = living
        self._on_settled = on_settled
        self._claims = Claims(self._router_id)
        self._lent_to: dict[str, tuple[int, tuple[str, ...]]] = {}
        #: whether what is listed now may have been driven by an earlier run of this router
        self._starting = True

    async def start(self) -> None:
        """Listen for claims and tallies.

        Raises:
            BusDisconnectedError, BusTimeoutError: NATS is away.
        """
        me = self._router_id
        await self._wire.listen(subjects.router_claim(me), Claim, self.on_claim)
        await self._wire.listen(subjects.router_tally(me), Tally, self.on_tally)

    def started(self) -> None:
        """Every table was listed once: workers that come from now on are new to this router."""
        self._starting = False
        self.pursue()

    def epoch_of(self, worker_id: str) -> int:
        """The epoch of the last reign over a worker that this router knows of."""
        return self._reigns.epoch(worker_id)

    # ---- as the new driver

    def reigns(self, lane: Lane, view: WorkerView) -> bool:
        """Whether slots of this worker, which names this router, may be given out.

        Its claim begins with the first question; `pursue` carries it on.
        """
        assignment = view.assignment
        worker_id, epoch = assignment.worker_id, assignment.driver_epoch
        if self._reigns.epoch(worker_id) > epoch:
            return False  # the record is out of date
        if not self._claims.knows(worker_id, epoch):
            now = self._clock.monotonic()
            fresh = epoch == 1 and not self._starting
            self._reigns.claim(worker_id, epoch, self._router_id, self._boot_id, now=now)
            self._claims.begin(worker_id, lane.endpoint_id, epoch, fresh=fresh, now=now)
            self._lender.drop_worker(worker_id)
            self._dispatcher.take_over(
                lane, worker_id, n_slots=assignment.spec.workers.max_concurrency, epoch=epoch
            )
        return self._claims.settled(worker_id, epoch)

    def pursue(self) -> None:
        """Ask whom has to be asked; take what is settled. Cheap while no claim is open."""
        living = self._living() if self._claims.open and not self._starting else None
        if living is None:
            return
        plan = self._claims.plan(living, now=self._clock.monotonic())
        for question in plan.questions:
            self._wire.tell(
                subjects.router_claim(question.router_id),
                Claim(
                    driver_id=self._router_id,
                    boot_id=self._boot_id,
                    endpoint_id=question.endpoint_id,
                    worker_id=question.worker_id,
                    epoch=question.epoch,
                ),
            )
        for worker_id, routers in plan.overdue:
            logger.warning(
                "worker driven without the answers of routers that seem to live",
                extra={
                    "action": "claim_overdue",
                    "worker_id": worker_id,
                    "routers": sorted(routers),
                },
            )
        for endpoint_id in dict.fromkeys(endpoint_id for _, endpoint_id in plan.settled):
            self._on_settled(endpoint_id)

    def on_tally(self, tally: Tally) -> None:
        """A router tells what it holds of a worker; one that was too late counts as well."""
        endpoint_id = self._claims.told(
            tally.router_id, tally.worker_id, tally.epoch, tally.lent_to
        )
        if endpoint_id is not None:
            self._lender.adopt(endpoint_id, tally)
            self.pursue()

    # ---- as a predecessor, or any other router

    def on_claim(self, claim: Claim) -> None:
        """Another router drives a worker from now on."""
        now = self._clock.monotonic()
        worker_id, epoch = claim.worker_id, claim.epoch
        if not self._reigns.claim(worker_id, epoch, claim.driver_id, claim.boot_id, now=now):
            return
        known = self._lent_to.get(worker_id)
        if known is None or known[0] != epoch:
            self._lent_to[worker_id] = (epoch, self._lender.lent_to(worker_id))
        self._claims.end(worker_id)
        self._lender.drop_worker(worker_id)
        self._tell(claim.endpoint_id, worker_id, epoch, claim.driver_id)
        self._on_settled(claim.endpoint_id)

    def on_other(self, lane: Lane, view: WorkerView) -> None:
        """A worker names another driver: tell that one what is held here, if it cannot know it."""
        assignment = view.assignment
        worker_id, epoch = assignment.worker_id, assignment.driver_epoch
        driver_id = assignment.driver
        if driver_id is None or self._reigns.epoch(worker_id) > epoch:
            return
        self._claims.end(worker_id)
        if self._dispatcher.holds_of_others(lane, worker_id, epoch):
            self._tell(lane.endpoint_id, worker_id, epoch, driver_id)

    def _tell(self, endpoint_id: str, worker_id: str, epoch: int, driver_id: str) -> None:
        held = self._dispatcher.yield_worker(endpoint_id, worker_id, driver_id, epoch)
        lent_to = self._lent_to.get(worker_id)
        tally = Tally(
            router_id=self._router_id,
            holder_boot_id=self._boot_id,
            worker_id=worker_id,
            epoch=epoch,
            lease_ids=held,
            lent_to=lent_to[1]
            if lent_to is not None and lent_to[0] == epoch
            else self._lender.lent_to(worker_id),
        )
        self._wire.tell(subjects.router_tally(driver_id), tally)

    # ---- time

    def tick(self, now: float) -> None:
        """Go on with open claims, and forget workers that are gone; to be called once a second."""
        known = self._catalogue.worker_ids()
        for worker_id in self._claims.workers():
            if worker_id not in known:
                self._claims.end(worker_id)
        for worker_id in tuple(self._lent_to):
            if worker_id not in known:
                del self._lent_to[worker_id]
        self._reigns.forget(known, now=now)
        self.pursue()
