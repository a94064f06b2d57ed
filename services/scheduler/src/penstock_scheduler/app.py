"""The scheduler as a process: connect, watch, lead or stand by, drain."""

import asyncio
import contextlib
import logging
import os
import socket
from typing import Final

from penstock_common import lifecycle
from penstock_common.clock import SystemClock
from penstock_common.entropy import random_secret
from penstock_common.events.catalogue import Service
from penstock_common.events.publisher import EventPublisher
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket
from penstock_common.nats.leases import Lease
from penstock_common.nats.streams import check_durability, ensure_streams
from penstock_common.subjects import QUEUE_METRICS_ALL, SCHEDULER_LEASE_KEY, WORKERS
from penstock_scheduler.agenda import Agenda
from penstock_scheduler.leader import Leadership
from penstock_scheduler.loop import SchedulerLoop
from penstock_scheduler.settings import Settings
from penstock_scheduler.store.store import Store

logger = logging.getLogger(__name__)

#: Events announced before the stop get so long to be stored.
_FLUSH_S: Final = 1.0


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Schedule until `stopping`; a standby is ready as well.

    Raises:
        PenstockError: NATS could not be reached, or refused what the scheduler needs.
    """
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        bus = await Bus.connect(settings, name="scheduler", clock=clock)
        stack.push_async_callback(bus.close)
        lease_bus = await Bus.connect(settings, name="scheduler-lease", clock=clock)
        stack.push_async_callback(lease_bus.close)
        await ensure_streams(bus, replicas=settings.nats_replicas)
        await check_durability(bus, settings.nats_monitor_url)

        poked, agenda = asyncio.Event(), Agenda(settings.tick_s)

        def poke(endpoint_id: str | None) -> None:
            if endpoint_id is None:
                agenda.poke_all()
            else:
                agenda.poke(endpoint_id)
            poked.set()

        leadership = Leadership(
            Lease(
                Bucket(lease_bus, WORKERS),
                SCHEDULER_LEASE_KEY,
                holder=f"{socket.gethostname()}:{os.getpid()}:{random_secret()[:8]}",
                ttl_s=settings.lease_ttl_s,
                clock=clock,
            ),
            renew_every_s=settings.lease_ttl_s / 3,
            retry_every_s=settings.candidate_interval_s,
            on_gained=poked.set,
        )
        store = Store(
            bus,
            leadership,
            clock,
            lost_after_s=settings.lost_after_s,
            settle_s=settings.settle_s,
            on_change=poke,
        )
        events = EventPublisher(bus, clock, Service.SCHEDULER)
        loop = SchedulerLoop(events, store, leadership, clock, agenda=agenda, poked=poked)
        subscription = bus.subscribe_nowait(QUEUE_METRICS_ALL, loop.hear)
        stack.push_async_callback(subscription.close)
        await store.start()
        stack.push_async_callback(store.stop)

        async def wake_to_stop() -> None:
            await stopping.wait()
            poked.set()

        # This one runs for ever: when it dies, the group ends the process.
        async with asyncio.TaskGroup() as publishing:
            publisher = publishing.create_task(events.run(), name="events")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(leadership.run(stopping), name="leadership")
                await leadership.wait_attempted()
                lifecycle.notify_ready(
                    check=lambda: (
                        loop.problem(clock.monotonic())
                        if bus.connected and lease_bus.connected
                        else "NATS is not connected"
                    )
                )
                tasks.create_task(loop.run(stopping), name="scheduler-loop")
                tasks.create_task(wake_to_stop(), name="wake-to-stop")
            await events.flush(_FLUSH_S)
            publisher.cancel()
