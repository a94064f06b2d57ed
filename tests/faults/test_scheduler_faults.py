"""What must not go wrong when the scheduler's leader, its lease or NATS does."""

import asyncio
import time
from pathlib import Path

import pytest

from penstock_common import subjects
from penstock_common.clock import SystemClock
from penstock_common.errors import WrongRevisionError
from penstock_common.nats.kv import Bucket
from penstock_common.nats.leases import Lease
from penstock_common.states import DesiredState
from penstock_scheduler.decision.memory import Memory
from penstock_scheduler.decision.reconcile import reconcile
from penstock_scheduler.leader import Leadership
from penstock_scheduler.planning.plan import Plan
from penstock_scheduler.store.store import Store
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_site import scheduler_process, scheduling, site_at
from tests.fakes.scheduler_world import World
from tests.support.bus import connected, eventually
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats

#: Long enough for a leader to renew its lease on a machine that stalls for a moment.
LEASE_TTL_S = 8
#: Nodes that do not beat for so long are lost: for tests that keep the beats away.
LOST_AFTER_S = 60


async def test_a_killed_leaders_successor_leads_when_its_lease_has_expired(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    ttl = {"PENSTOCK_SCHEDULER_LEASE_TTL_S": str(LEASE_TTL_S)}
    async with site_at(nats_server.url) as site:
        await site.join(make_node("node-a", n_gpus=4))
        await site.put(make_record(workers={"min": 2}))
        with (
            scheduler_process(nats_server.url, tmp_path / "1.log", **ttl) as first,
            scheduler_process(nats_server.url, tmp_path / "2.log", **ttl) as second,
        ):
            await eventually(lambda: site.running() == 2)
            await first.wait_says("service_ready")
            await second.wait_says("service_ready")
            leader, standby = (first, second) if first.says("lead_gained") else (second, first)
            assert not standby.says("lead_gained")
            before = site.of()
            leader.kill()
            await site.put(make_record(workers={"min": 3}))
            await eventually(lambda: len(site.of()) == 3)
            assert standby.says("lead_gained")
            kept = {a.worker_id for a in before}
            assert kept < {a.worker_id for a in site.of()}
            tokens = {a.fencing_token for a in site.of() if a.worker_id not in kept}
            assert min(tokens) > max(a.fencing_token for a in before)


async def test_a_deposed_leaders_write_is_refused_however_sure_it_is(
    nats_server: NatsServer,
) -> None:
    """Its process was frozen: it wakes up in the middle of a plan, with a lease it thinks it has."""
    clock = SystemClock()
    async with connected(nats_server.url) as bus, site_at(nats_server.url) as site:
        bucket = Bucket(bus, subjects.WORKERS)
        lease = Lease(bucket, subjects.SCHEDULER_LEASE_KEY, holder="a", ttl_s=60, clock=clock)
        leadership = Leadership(lease, renew_every_s=60, retry_every_s=60, on_gained=lambda: None)
        store = Store(bus, leadership, clock, lost_after_s=10, settle_s=0, on_change=lambda _: None)
        await store.start()
        try:
            assert await lease.try_acquire()
            world = World()
            world.join(make_node("node-a"))
            world.put(make_record(workers={"min": 1}))
            plan, _ = reconcile(
                world.snapshot(), Memory(), new_id=lambda: "wk-stale", token=lease.token
            )
            token = lease.token
            await bucket.delete(subjects.SCHEDULER_LEASE_KEY)  # as if it had expired
            other = Lease(bucket, subjects.SCHEDULER_LEASE_KEY, holder="b", ttl_s=60, clock=clock)
            assert await other.try_acquire()
            assert leadership.leads  # by its own clock

            with pytest.raises(WrongRevisionError):
                await store.apply(plan, token=token)
            assert await bucket.get("node-a.wk-stale") is None
            assert not await leadership.confirm()
            assert not leadership.leads
            assert not store.ready(clock.monotonic()) or not leadership.leads
            assert site.of() == []
        finally:
            await store.stop()


async def test_a_renewal_in_the_middle_of_a_write_costs_one_more_try(
    nats_server: NatsServer,
) -> None:
    clock = SystemClock()
    async with connected(nats_server.url) as bus, site_at(nats_server.url):
        bucket = Bucket(bus, subjects.WORKERS)
        lease = Lease(bucket, subjects.SCHEDULER_LEASE_KEY, holder="a", ttl_s=60, clock=clock)
        leadership = Leadership(lease, renew_every_s=60, retry_every_s=60, on_gained=lambda: None)
        store = Store(bus, leadership, clock, lost_after_s=10, settle_s=0, on_change=lambda _: None)
        await store.start()
        try:
            assert await lease.try_acquire()
            store.begin_term(lease.token)
            await eventually(lambda: store.ready(clock.monotonic()))
            world = World()
            world.join(make_node("node-a", n_gpus=8))
            world.put(make_record(workers={"min": 8, "max": 8}))
            ids = iter(f"wk-{n}" for n in range(8))
            plan, _ = reconcile(
                world.snapshot(), Memory(), new_id=lambda: next(ids), token=lease.token
            )
            await asyncio.gather(store.apply(plan, token=lease.token), lease.renew())
            await eventually(lambda: store.ready(clock.monotonic()))
            await eventually(lambda: store.shows("ep-1", clock.monotonic()))
            snapshot = store.snapshot(["ep-1"], {}, clock.monotonic())
            assert len(snapshot.workers) == 8
        finally:
            await store.stop()


async def test_a_plan_of_an_earlier_term_is_not_written_when_the_same_process_leads_again(
    nats_server: NatsServer,
) -> None:
    """It waited for its turn to be written while the lease was lost and won again."""
    clock = SystemClock()
    async with connected(nats_server.url) as bus, site_at(nats_server.url) as site:
        bucket = Bucket(bus, subjects.WORKERS)
        lease = Lease(bucket, subjects.SCHEDULER_LEASE_KEY, holder="a", ttl_s=60, clock=clock)
        leadership = Leadership(lease, renew_every_s=60, retry_every_s=60, on_gained=lambda: None)
        store = Store(bus, leadership, clock, lost_after_s=10, settle_s=0, on_change=lambda _: None)
        await store.start()
        try:
            assert await lease.try_acquire()
            earlier = lease.token
            world = World()
            world.join(make_node("node-a"))
            world.put(make_record(workers={"min": 1}))
            plan, _ = reconcile(
                world.snapshot(), Memory(), new_id=lambda: "wk-stale", token=earlier
            )
            await lease.release()
            assert await lease.try_acquire()
            assert lease.token > earlier
            with pytest.raises(WrongRevisionError):
                await store.apply(plan, token=earlier)
            assert await bucket.get("node-a.wk-stale") is None
            assert store.view.ledger.n_workers_on("node-a") == 0
            assert site.of() == []
        finally:
            await store.stop()


async def test_a_restart_of_nats_stops_nobody(nats_server: NatsServer) -> None:
    """Heartbeats lie in memory: after the restart every node and router seems to be gone."""
    async with (
        site_at(nats_server.url) as site,
        scheduling(nats_server.url, lost_after_s=LOST_AFTER_S),
    ):
        await site.join(make_node("node-a", n_gpus=2))
        await site.join(make_node("node-b", n_gpus=2))
        await site.put(make_record(workers={"min": 3}))
        await eventually(lambda: site.running() == 3)
        before = {a.worker_id: a.driver for a in site.of()}
        site.beating = False
        nats_server.kill()
        await asyncio.sleep(1)
        nats_server.start()
        await eventually(lambda: site.assignments.synced)
        deadline = time.monotonic() + 6  # noqa: TID251
        while time.monotonic() < deadline:  # noqa: TID251
            assert {a.worker_id: a.driver for a in site.of()} == before
            assert {a.desired for a in site.of()} == {DesiredState.RUNNING}
            await asyncio.sleep(0.1)
        site.beating = True
        await site.beat()
        await site.put(make_record(workers={"min": 4, "max": 4}))
        await eventually(lambda: site.running() == 4)
        assert before.keys() < {a.worker_id for a in site.of()}
        status = site.status()
        assert status is not None
        assert status.reason is None


async def test_while_nats_is_frozen_nothing_is_decided_and_then_all_goes_on(
    nats_server: NatsServer,
) -> None:
    """The lease expires by the leader's own clock; after the thaw somebody leads again."""
    async with (
        site_at(nats_server.url) as site,
        scheduling(nats_server.url, lease_ttl_s=2, lost_after_s=LOST_AFTER_S),
    ):
        await site.join(make_node("node-a", n_gpus=4))
        await site.put(make_record(workers={"min": 2}))
        await eventually(lambda: site.running() == 2)
        before = {a.worker_id for a in site.of()}
        nats_server.freeze()
        await asyncio.sleep(4)
        nats_server.thaw()
        await eventually(lambda: site.bus.connected)
        await site.put(make_record(workers={"min": 3}))
        await eventually(lambda: site.running() == 3)
        assert before < {a.worker_id for a in site.of()}


@pytest.mark.parametrize("n_written", range(4))
async def test_a_leader_killed_at_any_write_of_its_plan_leaves_nothing_lost_or_doubled(
    nats_server: NatsServer, n_written: int
) -> None:
    """Its plan starts three workers; the process dies when so many of the writes are done."""
    clock = SystemClock()
    async with connected(nats_server.url) as bus, site_at(nats_server.url) as site:
        bucket = Bucket(bus, subjects.WORKERS)
        lease = Lease(bucket, subjects.SCHEDULER_LEASE_KEY, holder="a", ttl_s=60, clock=clock)
        leadership = Leadership(lease, renew_every_s=60, retry_every_s=60, on_gained=lambda: None)
        store = Store(bus, leadership, clock, lost_after_s=10, settle_s=0, on_change=lambda _: None)
        record = make_record(workers={"min": 3})
        await site.join(make_node("node-a", n_gpus=4))
        await site.put(record)
        await store.start()
        try:
            assert await lease.try_acquire()
            world = World()
            world.join(make_node("node-a", n_gpus=4))
            world.put(record)
            new_id = iter(["wk-1", "wk-2", "wk-3"]).__next__
            plan, _ = reconcile(world.snapshot(), Memory(), new_id=new_id, token=lease.token)
            assert len(plan.creates) == 3
            await store.apply(Plan(creates=plan.creates[:n_written]), token=lease.token)
        finally:
            await store.stop()  # it is dead; its lease will expire
        await bucket.delete(subjects.SCHEDULER_LEASE_KEY)
        async with scheduling(nats_server.url, settle_s=0):
            await eventually(lambda: site.running() == 3)
            assert len(site.of()) == 3
            assert {a.worker_id for a in plan.creates[:n_written]} <= {
                a.worker_id for a in site.of()
            }
            gpus = [uuid for assignment in site.of() for uuid in assignment.gpus]
            assert len(set(gpus)) == len(gpus) == 3
