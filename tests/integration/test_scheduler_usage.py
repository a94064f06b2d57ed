"""The record of what a worker has used lies in NATS before the worker is forgotten, and once."""

import pytest

from penstock_common import subjects
from penstock_common.messages import ApiKeyRecord, UsageRecord
from penstock_common.states import EndpointReason
from tests.fakes.clock import EPOCH
from tests.fakes.scheduler_records import make_node, make_record
from tests.fakes.scheduler_site import Site, scheduling, site_at
from tests.support.bus import eventually
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats


async def used(site: Site, worker_id: str) -> UsageRecord:
    answer = await site.bus.request(
        f"$JS.API.DIRECT.GET.{subjects.USAGE}.{subjects.usage(worker_id)}", b""
    )
    return UsageRecord.decode(answer.data)


async def test_a_worker_that_is_gone_has_a_record(nats_server: NatsServer) -> None:
    async with site_at(nats_server.url) as site, scheduling(nats_server.url):
        await site.join(make_node("node-a"))
        record = make_record(workers={"min": 1}, owner="key-1")
        await site.put(record)
        await eventually(lambda: site.running() == 1)
        (assignment,) = site.of()
        await site.put(record.model_copy(update={"paused": True}))
        await eventually(lambda: not site.of())
        usage = await used(site, assignment.worker_id)
        assert usage.began_at == assignment.assigned_at
        assert usage.began_at < usage.ended_at <= site.clock.utc()
        assert (usage.owner, usage.gpu_product, usage.gpus) == ("key-1", "rtx-4090-24gb", 1)


async def test_the_first_record_of_a_worker_stays(nats_server: NatsServer) -> None:
    """An earlier leader wrote it, and died before it removed the assignment."""
    async with site_at(nats_server.url) as site, scheduling(nats_server.url):
        await site.join(make_node("node-a"))
        record = make_record(workers={"min": 1})
        await site.put(record)
        await eventually(lambda: site.running() == 1)
        (assignment,) = site.of()
        written = UsageRecord(
            worker_id=assignment.worker_id,
            endpoint_id="ep-1",
            app_name="ep-1",
            node_id="node-a",
            gpus=1,
            began_at=EPOCH,
            ended_at=EPOCH,
        )
        await site.bus.store(subjects.usage(assignment.worker_id), written.encode())
        await site.put(record.model_copy(update={"paused": True}))
        await eventually(lambda: not site.of())
        assert await used(site, assignment.worker_id) == written


async def test_a_quota_is_followed_as_it_changes(nats_server: NatsServer) -> None:
    key = ApiKeyRecord(
        key_id="key-1", sha256="0" * 64, scope="deploy", max_workers=1, created_at=EPOCH
    )
    async with site_at(nats_server.url) as site, scheduling(nats_server.url):
        await site.put_key(key)
        await site.join(make_node("node-a", n_gpus=4))
        await site.put(make_record(workers={"min": 2}, owner="key-1"))
        await eventually(lambda: (s := site.status()) and s.reason is EndpointReason.QUOTA_EXCEEDED)
        await eventually(lambda: site.running() == 1)
        await site.put_key(key.model_copy(update={"max_workers": 2}))
        await eventually(lambda: site.running() == 2)
