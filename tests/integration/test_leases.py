"""`Lease` against a real nats-server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock_common import subjects
from penstock_common.clock import Clock, SystemClock
from penstock_common.errors import BusTimeoutError, WrongRevisionError
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, Entry, Fence
from penstock_common.nats.leases import Lease
from penstock_common.nats.streams import ensure_streams
from tests.fakes.clock import ManualClock
from tests.support.bus import connected
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.nats

KEY = subjects.SCHEDULER_LEASE_KEY


@pytest.fixture
async def bucket(nats_server: NatsServer) -> AsyncIterator[Bucket]:
    async with connected(nats_server.url) as bus:
        await ensure_streams(bus)
        yield Bucket(bus, subjects.WORKERS)


def make_lease(
    bucket: Bucket, holder: str, *, ttl_s: int = 30, clock: Clock | None = None
) -> Lease:
    return Lease(bucket, KEY, holder=holder, ttl_s=ttl_s, clock=clock or SystemClock())


async def until_acquired(lease: Lease) -> None:
    async with asyncio.timeout(60):
        while not await lease.try_acquire():  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.02)


class LossyBucket(Bucket):
    """A bucket whose next answers get lost, before or after the server did what was asked."""

    def __init__(self, bus: Bus, name: str) -> None:
        super().__init__(bus, name)
        self.lose_answers = 0
        self.lose_requests = 0
        self.lose_reads = 0

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        revision: int | None = None,
        ttl_s: int | None = None,
        fence: Fence | None = None,
    ) -> int:
        if self.lose_requests:
            self.lose_requests -= 1
            raise BusTimeoutError
        written = await super().put(key, value, revision=revision, ttl_s=ttl_s, fence=fence)
        if self.lose_answers:
            self.lose_answers -= 1
            raise BusTimeoutError
        return written

    async def latest(self, key: str) -> tuple[Entry | None, int]:
        if self.lose_reads:
            self.lose_reads -= 1
            raise BusTimeoutError
        return await super().latest(key)


@pytest.fixture
def lossy(bucket: Bucket) -> LossyBucket:
    return LossyBucket(bucket._bus, subjects.WORKERS)


async def test_one_holder_at_a_time(bucket: Bucket) -> None:
    one, two = make_lease(bucket, "one"), make_lease(bucket, "two")
    assert not one.held
    assert await one.try_acquire()
    assert (one.held, two.held) == (True, False)
    assert not await two.try_acquire()
    assert await one.try_acquire()
    assert not await two.renew()
    await two.release()
    assert await one.renew()


async def test_of_many_exactly_one_acquires(bucket: Bucket) -> None:
    leases = [make_lease(bucket, f"h{i}") for i in range(20)]
    won = await asyncio.gather(*(lease.try_acquire() for lease in leases))
    assert sum(won) == 1
    assert [lease.held for lease in leases] == won


async def test_the_token_stays_and_the_fence_moves(bucket: Bucket) -> None:
    lease = make_lease(bucket, "one")
    await lease.try_acquire()
    token, first = lease.token, lease.fence
    assert first == Fence(KEY, token)
    await bucket.put("n.w", b"1", fence=first)
    assert await lease.renew()
    assert lease.token == token
    assert lease.fence.revision > first.revision
    with pytest.raises(WrongRevisionError):
        await bucket.put("n.w", b"2", fence=first)
    await bucket.put("n.w", b"2", fence=lease.fence)


async def test_tokens_grow_from_holder_to_holder(bucket: Bucket) -> None:
    one, two = make_lease(bucket, "one"), make_lease(bucket, "two")
    tokens = []
    for _ in range(3):
        for lease in (one, two):
            assert await lease.try_acquire()
            await lease.renew()
            tokens.append(lease.token)
            await lease.release()
            assert not lease.held
    assert tokens == sorted(set(tokens))


async def test_release_lets_the_next_take_it_at_once(bucket: Bucket) -> None:
    one, two = make_lease(bucket, "one"), make_lease(bucket, "two")
    await one.try_acquire()
    await one.release()
    assert await two.try_acquire()
    with pytest.raises(RuntimeError, match="not held"):
        _ = one.token
    with pytest.raises(RuntimeError, match="not held"):
        _ = one.fence


async def test_a_dead_holders_lease_is_free_after_its_ttl(bucket: Bucket) -> None:
    one, two = make_lease(bucket, "one", ttl_s=2), make_lease(bucket, "two", ttl_s=2)
    began = asyncio.get_running_loop().time()
    await one.try_acquire()
    old = one.fence
    await until_acquired(two)
    assert asyncio.get_running_loop().time() - began > 1.5
    assert not one.held
    assert two.token > old.revision
    assert not await one.renew()
    assert two.held
    with pytest.raises(WrongRevisionError):
        await bucket.put("n.w", b"", fence=old)


async def test_held_ends_by_the_holders_clock_alone(bucket: Bucket) -> None:
    clock = ManualClock(100.0)
    lease = make_lease(bucket, "one", ttl_s=10, clock=clock)
    await lease.try_acquire()
    clock.advance(7.99)
    assert lease.held
    clock.advance(0.02)
    assert not lease.held  # 10 s less the margin of a fifth
    assert await lease.renew()  # nobody else took it
    assert lease.held


async def test_time_counts_from_before_the_send(bucket: Bucket) -> None:
    class SlowBucket(Bucket):
        async def put(self, key: str, value: bytes, **options: object) -> int:
            written = await super().put(key, value, **options)  # type: ignore[arg-type]
            clock.advance(5)  # the answer takes long
            return written

    clock = ManualClock()
    slow = SlowBucket(bucket._bus, subjects.WORKERS)
    lease = make_lease(slow, "one", ttl_s=10, clock=clock)
    assert await lease.try_acquire()
    clock.advance(2.99)
    assert lease.held
    clock.advance(0.02)
    assert not lease.held


async def test_an_acquisition_without_answer_is_read_back(lossy: LossyBucket) -> None:
    lease = make_lease(lossy, "one")
    lossy.lose_answers = 1
    assert await lease.try_acquire()
    assert lease.held
    assert lease.token < lease.fence.revision  # the token is the first write's revision
    entry = await lossy.get(KEY)
    assert entry is not None
    assert entry.revision == lease.fence.revision


async def test_an_acquisition_that_never_arrived_is_no_lease(lossy: LossyBucket) -> None:
    lease = make_lease(lossy, "one")
    lossy.lose_requests = 1
    assert not await lease.try_acquire()
    assert await make_lease(lossy, "two").try_acquire()


async def test_an_acquisition_that_can_not_be_read_back_is_found_later(lossy: LossyBucket) -> None:
    lease = make_lease(lossy, "one")
    lossy.lose_answers = 1
    reads = 0

    async def latest(key: str) -> tuple[Entry | None, int]:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise BusTimeoutError
        return await Bucket.latest(lossy, key)

    lossy.latest = latest  # type: ignore[method-assign]
    assert not await lease.try_acquire()
    assert not lease.held
    entry = await lossy.get(KEY)
    assert entry is not None
    assert await lease.try_acquire()  # it is its own claim
    assert lease.token == entry.revision


async def test_a_renewal_without_answer_goes_on(lossy: LossyBucket) -> None:
    lease = make_lease(lossy, "one")
    await lease.try_acquire()
    token = lease.token
    lossy.lose_answers = 1
    assert await lease.renew()
    lossy.lose_requests = 1
    assert await lease.renew()
    assert lease.token == token
    assert await lossy.last_revision(KEY) == lease.fence.revision


async def test_a_renewal_that_can_not_be_read_back_holds_until_the_time_is_up(
    lossy: LossyBucket,
) -> None:
    clock = ManualClock()
    lease = make_lease(lossy, "one", ttl_s=10, clock=clock)
    await lease.try_acquire()
    token = lease.token
    clock.advance(3)
    lossy.lose_answers = 1
    lossy.lose_reads = 1
    assert await lease.renew()
    clock.advance(5.01)
    assert not lease.held  # the write was done, but we cannot know
    assert await lease.renew()  # finds it, and goes on
    assert (lease.held, lease.token) == (True, token)


async def test_a_lease_taken_away_is_lost_at_the_next_renewal(bucket: Bucket) -> None:
    lease = make_lease(bucket, "one")
    await lease.try_acquire()
    await bucket.delete(KEY)
    assert not await lease.renew()
    assert not lease.held
    assert await lease.try_acquire()


async def test_two_objects_of_one_holder_exclude_each_other(bucket: Bucket) -> None:
    """A holder that restarts must not pass for the one that it was."""
    assert await make_lease(bucket, "same").try_acquire()
    assert not await make_lease(bucket, "same").try_acquire()


@pytest.mark.parametrize(("ttl_s", "margin_s"), [(1, None), (5, 5.0), (5, -1.0)])
async def test_times_that_cannot_work(bucket: Bucket, ttl_s: int, margin_s: float | None) -> None:
    with pytest.raises(ValueError, match="margin_s"):
        Lease(bucket, KEY, holder="h", ttl_s=ttl_s, clock=SystemClock(), margin_s=margin_s)
