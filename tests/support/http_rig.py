"""A router's byte path over real decisions, without NATS: endpoints and workers are put by hand."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

from penstock_common.clock import Clock, SystemClock
from penstock_common.messages import (
    ApiKeyRecord,
    EndpointRecord,
    Ticket,
    WorkerAssignment,
    WorkerStatus,
)
from penstock_common.specs import parse_endpoint
from penstock_common.states import DesiredState, WorkerState
from penstock_router.catalogue import Catalogue
from penstock_router.dispatch import Dispatcher
from penstock_router.gate import Gate
from penstock_router.lanes import LeaseOutcome
from penstock_router.loans import Loan, Loans
from penstock_router.picker import pick_least_busy
from penstock_router.proxy.server import ProxyServer
from penstock_router.proxy.upstream import Upstream
from penstock_router.roster import Roster
from penstock_router.settings import RouterSettings
from tests.fakes.held_time import HeldTime

CLOCK = SystemClock()
ROUTER = "rt-rig"


class HttpRig:
    """One router that knows what a test tells it; serves whoever waits from its own slots."""

    def __init__(self, *, clock: Clock = CLOCK, **settings: Any) -> None:
        patient = {"connect_timeout_s": 60, "worker_keepalive_s": 3600}
        self.settings = RouterSettings.model_validate({"port": 0} | patient | settings)
        self.catalogue = Catalogue()
        ids = itertools.count()
        self.dispatcher = Dispatcher(
            router_id=ROUTER,
            catalogue=self.catalogue,
            policy=pick_least_busy,
            clock=clock,
            new_id=lambda prefix: f"{prefix}-{next(ids)}",
            events=self,
            loans=Loans(),
        )
        self.roster = Roster(
            self.dispatcher,
            self.catalogue,
            clock=clock,
            events=self,
            ejected=lambda view: False,
            reigns=lambda lane, view: True,
            on_other=lambda lane, view: None,
            on_closed=lambda endpoint_id, worker_id: None,
            no_capacity_wait_s=self.settings.no_capacity_wait_s,
        )
        self.outcomes: list[tuple[str, LeaseOutcome]] = []
        gate = Gate(
            settings=self.settings,
            catalogue=self.catalogue,
            dispatcher=self.dispatcher,
            new_id=lambda prefix: f"{prefix}-{next(ids)}",
            is_ready=lambda: True,
            on_connect_failed=lambda endpoint_id, worker_id: None,
            new_hex=lambda count: "1".rjust(16, "0") * (count // 16),
        )
        self.upstream = Upstream(self.settings)
        self.server = ProxyServer(gate, self.upstream, self.settings)
        self.port = 0

    def hold_time(self) -> HeldTime:
        """Have the limits of connections come when the test says so; to be called before any is made."""
        context = self.server._context
        held: Any = HeldTime(context.loop)
        context.loop = self.upstream._loop = held
        context.now = held.time
        return held  # type: ignore[no-any-return]

    # ---- DispatchEvents

    def ticket_waits(self, ticket: Ticket, *, publish: bool) -> None:
        pass

    def slots_freed(self, endpoint_id: str) -> None:
        self.dispatcher.serve_locally(endpoint_id)

    def loan_ended(self, loan: Loan, outcome: LeaseOutcome) -> None:
        pass

    def lane_made(self, endpoint_id: str) -> None:
        self.roster.refresh(endpoint_id)

    def load_changed(self, endpoint_id: str, *, urgent: bool) -> None:
        pass

    # ---- what a test tells it

    def put_endpoint(self, app: str = "echo", *, public: bool = True, **sections: Any) -> str:
        endpoint_id = f"ep-{app}"
        spec = parse_endpoint(
            {"name": app, "app_name": app, "image": {"command": "x"}, "public": public, **sections}
        )
        record = EndpointRecord(
            endpoint_id=endpoint_id,
            spec=spec,
            revision=1,
            created_at=CLOCK.utc(),
            updated_at=CLOCK.utc(),
        )
        self.catalogue.put_endpoint(endpoint_id, record)
        self.roster.refresh(endpoint_id)
        return endpoint_id

    def put_worker(self, port: int, app: str = "echo", worker_id: str = "wk-1") -> None:
        endpoint_id = f"ep-{app}"
        record = self.catalogue.endpoint(endpoint_id)
        assert record is not None
        key = f"node-rig.{worker_id}"
        assignment = WorkerAssignment(
            worker_id=worker_id,
            node_id="node-rig",
            endpoint_id=endpoint_id,
            revision=1,
            spec=record.spec,
            driver=ROUTER,
            desired=DesiredState.RUNNING,
            fencing_token=1,
            decided_at=CLOCK.utc(),
            assigned_at=CLOCK.utc(),
        )
        status = WorkerStatus(
            worker_id=worker_id,
            node_id="node-rig",
            endpoint_id=endpoint_id,
            revision=1,
            state=WorkerState.RUNNING,
            host="127.0.0.1",
            port=port,
            updated_at=CLOCK.utc(),
        )
        self.catalogue.put_assignment(key, assignment, 1)
        self.catalogue.put_worker_status(key, status, 1)
        self.roster.refresh(endpoint_id)

    def put_key(self, sha256: str) -> None:
        record = ApiKeyRecord.model_validate(
            {
                "key_id": "key-1",
                "sha256": sha256,
                "scope": "invoke",
                "endpoint_ids": (),
                "created_at": CLOCK.utc(),
            }
        )
        self.catalogue.put_key("key-1", record)

    # ---- what it did

    def in_use(self, app: str = "echo") -> int:
        """Slots that are out."""
        return self.dispatcher.lanes[f"ep-{app}"].slots.in_flight

    def waiting(self, app: str = "echo") -> int:
        """Clients that wait."""
        return len(self.dispatcher.lanes[f"ep-{app}"].waiting)


@contextlib.asynccontextmanager
async def running_rig(**settings: Any) -> AsyncIterator[HttpRig]:
    """A rig that listens."""
    rig = HttpRig(**settings)
    rig.port = await rig.server.start()
    try:
        yield rig
    finally:
        await rig.server.close()
        await rig.upstream.close()
        await asyncio.sleep(0)
