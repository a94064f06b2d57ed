"""The whole scheduler on a real nats-server: from a waiting request to a worker and back."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.events.catalogue import Service
from penstock_common.events.publisher import EventPublisher
from penstock_common.messages import NodeOrder
from penstock_common.nats.kv import Bucket
from penstock_common.nats.leases import Lease
from penstock_common.states import DesiredState, EndpointReason, EndpointState, NodeWish
from penstock_scheduler.agenda import Agenda
from penstock_scheduler.leader import Leadership
from penstock_scheduler.loop import SchedulerLoop
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.store.store import Store
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_site import scheduler_process, scheduling, site_at
from tests.support.bus import connected, eventually
from tests.support.events import stored_events
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats


async def test_a_waiting_request_gets_its_worker_and_the_worker_goes_when_idle(
    nats_server: NatsServer,
) -> None:
    async with site_at(nats_server.url) as site, scheduling(nats_server.url):
        await site.join(make_node("node-a"))
        await site.put(make_record(workers={"idle_timeout_s": 1}))
        await eventually(site.status)
        assert site.of() == []
        await site.wait()
        await eventually(site.of)
        (assignment,) = site.of()
        assert (assignment.node_id, assignment.driver) == ("node-a", "rt-1")
        assert assignment.fencing_token > 0
        assert assignment.assigned_at >= assignment.decided_at
        await eventually(lambda: site.running() == 1)

        site.waiting, site.in_flight[assignment.worker_id] = 0, 1
        await asyncio.sleep(1.5)  # longer than the idle timeout, and busy
        assert [a.desired for a in site.of()] == [DesiredState.RUNNING]
        site.in_flight.clear()
        site.idle_s = 1.0
        await eventually(lambda: not site.of())
        await eventually(lambda: site.running() == 0)
        status = site.status()
        assert status is not None
        assert status.state is EndpointState.SERVING
        assert [row.name for row, _ in await stored_events(site.bus, at_least=3)] == [
            "penstock.scale.decided",
            "penstock.worker.assigned",
            "penstock.scale.decided",
        ]


async def test_a_report_is_acted_on_without_waiting_for_the_tick(nats_server: NatsServer) -> None:
    tick_s = 10
    async with site_at(nats_server.url) as site, scheduling(nats_server.url, tick_s=tick_s):
        await site.join(make_node("node-a", n_gpus=8))
        took_s = 0.0
        for number in range(8):
            name = f"ep-{number}"
            await site.put(make_record(name))
            await eventually(partial(site.status, name))
            await site.wait(name)
            took_s += await eventually(partial(site.of, name))
            site.waiting = 0
        assert took_s < 3 * tick_s  # eight by the tick would take eight, each begun behind one


async def test_min_workers_run_and_no_capacity_is_said(nats_server: NatsServer) -> None:
    async with (
        site_at(nats_server.url) as site,
        scheduling(nats_server.url, settle_s=0.5),
    ):
        await site.put(make_record(workers={"min": 2}))
        await eventually(lambda: (s := site.status()) and s.reason is EndpointReason.NO_CAPACITY)
        status = site.status()
        assert status is not None
        assert (status.message or "").startswith("no capacity: no nodes joined; ")
        await site.join(make_node("node-a", n_gpus=2))
        await eventually(lambda: site.running() == 2)
        status = site.status()
        assert status is not None
        assert (status.state, status.reason) == (EndpointState.SERVING, None)


async def test_a_deleted_endpoint_leaves_nothing(nats_server: NatsServer) -> None:
    async with site_at(nats_server.url) as site, scheduling(nats_server.url, settle_s=0.5):
        await site.join(make_node("node-a"))
        record = make_record(workers={"min": 1})
        await site.put(record)
        await eventually(lambda: site.running() == 1)
        await site.put(record.model_copy(update={"deleted_at": EPOCH}))
        await eventually(lambda: not site.of())
        await eventually(lambda: (s := site.status()) and s.state is EndpointState.DELETING)
        await Bucket(site.bus, subjects.ENDPOINTS).delete(record.endpoint_id)
        await eventually(lambda: site.status() is None)


async def test_a_lost_nodes_workers_are_replaced(nats_server: NatsServer) -> None:
    async with site_at(nats_server.url) as site, scheduling(nats_server.url):
        await site.join(make_node("node-a", n_gpus=1))
        await site.put(make_record(workers={"min": 1}))
        await eventually(lambda: site.running() == 1)
        began = site.clock.monotonic()
        await site.join(make_node("node-b", n_gpus=1))
        del site.nodes["node-a"]  # its key expires after 10 s
        await eventually(lambda: [a.node_id for a in site.of()] == ["node-b"])
        assert site.clock.monotonic() - began > 8


async def test_the_workers_of_a_router_that_leaves_get_another_driver_at_once(
    nats_server: NatsServer,
) -> None:
    async with site_at(nats_server.url) as site, scheduling(nats_server.url):
        site.routers.add("rt-2")
        await site.join(make_node("node-a"))
        await site.put(make_record(workers={"min": 2}))
        await eventually(lambda: site.running() == 2)
        assert {a.driver for a in site.of()} == {"rt-1", "rt-2"}
        site.routers.remove("rt-2")
        await Bucket(site.bus, subjects.ROUTERS).delete("rt-2")
        await eventually(lambda: [a.driver for a in site.of()] == ["rt-1", "rt-1"])


async def test_a_scheduler_that_is_told_to_stop_gives_the_lease_up(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    lasting = {"PENSTOCK_SCHEDULER_LEASE_TTL_S": "60"}
    async with site_at(nats_server.url) as site:
        await site.join(make_node("node-a"))
        with (
            scheduler_process(nats_server.url, tmp_path / "1.log", **lasting) as first,
            scheduler_process(nats_server.url, tmp_path / "2.log", **lasting) as second,
        ):
            await first.wait_says("service_ready")
            await second.wait_says("service_ready")
            await eventually(lambda: first.says("lead_gained") or second.says("lead_gained"))
            assert not (first.says("lead_gained") and second.says("lead_gained"))
            leader, standby = (first, second) if first.says("lead_gained") else (second, first)
            assert await asyncio.to_thread(leader.terminate) == 0
            await eventually(
                lambda: standby.says("lead_gained"), within_s=30
            )  # not its lease's life
            await site.put(make_record(workers={"min": 1}))
            await eventually(lambda: site.running() == 1)
            assert await asyncio.to_thread(standby.terminate) == 0


class SlowStore(Store):
    """The disk of NATS is slow to take what concerns one endpoint, as far as the scheduler sees."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.taken = asyncio.Event()
        self.waiting: list[set[str]] = []

    async def apply(self, plan: Plan, *, token: int) -> None:
        if "ep-1" in self.endpoints_of(plan):
            self.waiting.append(self.endpoints_of(plan))
            await self.taken.wait()
        await super().apply(plan, token=token)


async def test_a_slow_write_holds_up_its_own_endpoint_alone(nats_server: NatsServer) -> None:
    clock, poked, stopping, agenda = SystemClock(), asyncio.Event(), asyncio.Event(), Agenda(0.5)

    def poke(endpoint_id: str | None) -> None:
        if endpoint_id is None:
            agenda.poke_all()
        else:
            agenda.poke(endpoint_id)
        poked.set()

    async with connected(nats_server.url) as bus, site_at(nats_server.url) as site:
        lease = Lease(
            Bucket(bus, subjects.WORKERS),
            subjects.SCHEDULER_LEASE_KEY,
            holder="a",
            ttl_s=60,
            clock=clock,
        )
        leadership = Leadership(lease, renew_every_s=60, retry_every_s=60, on_gained=poked.set)
        store = SlowStore(bus, leadership, clock, lost_after_s=10, settle_s=0, on_change=poke)
        events = EventPublisher(bus, clock, Service.SCHEDULER)
        loop = SchedulerLoop(events, store, leadership, clock, agenda=agenda, poked=poked)
        assert await lease.try_acquire()
        await store.start()
        task = asyncio.create_task(loop.run(stopping), name="loop")
        try:
            await site.join(make_node("node-a", n_gpus=2))
            await site.put(make_record("ep-1", workers={"min": 1}))
            await eventually(lambda: store.waiting)
            await site.put(make_record("ep-2", workers={"min": 1}))
            await eventually(lambda: site.running("ep-2") == 1)
            assert site.of("ep-1") == []
            assert len(store.waiting) == 1  # it is not decided on anew meanwhile
            (held,) = site.of("ep-2")
            store.taken.set()
            await eventually(lambda: site.running("ep-1") == 1)
            (late,) = site.of("ep-1")
            assert not set(late.gpus) & set(held.gpus)
        finally:
            stopping.set()
            poked.set()
            store.taken.set()
            async with asyncio.timeout(60):
                await task
            await store.stop()
            await lease.release()


async def test_a_drain_ordered_in_the_bucket_empties_the_node_and_is_told_of(
    nats_server: NatsServer,
) -> None:
    async with site_at(nats_server.url) as site, scheduling(nats_server.url):
        await site.join(make_node("node-a", n_gpus=1))
        await site.put(make_record(workers={"min": 1, "max": 1}))
        await eventually(lambda: site.running() == 1)
        await site.join(make_node("node-b", n_gpus=1))
        await site.join(make_node("node-c", n_gpus=0))
        for node_id in ("node-a", "node-c"):
            order = NodeOrder(node_id=node_id, wish=NodeWish.DRAINING, at=EPOCH)
            await Bucket(site.bus, subjects.NODE_ORDERS).put(node_id, order.encode())
        # The empty one is told of although there is nothing to write.
        told = await stored_events(site.bus, subjects.node_event("*", "drained"), at_least=2)
        assert sorted(data.model_dump()["node_id"] for _, data in told) == ["node-a", "node-c"]
        assert [a.node_id for a in site.of()] == ["node-b"]
        assert site.running() == 1
