"""A canary under traffic, through `penstock up`: its share, its promotion, its end."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.installation import PENSTOCK, ROOT, Installation, eventually
from tests.support.traffic import RATE_PER_S, enough, traffic

GAUGE = f"{sys.executable} {ROOT}/tests/support/gauge_worker.py"
pytestmark = [pytest.mark.slow, pytest.mark.nats]
N_CLIENTS = 4


@pytest.fixture
async def penstock(tmp_path: Path) -> AsyncIterator[Installation]:
    async with Installation(tmp_path / "data", "--runtime", "process", "--gpus", "none") as running:
        # As many slots as there are clients: each side always has a free one.
        limits = {"min": 2, "max": 2, "max_concurrency": 2 * N_CLIENTS}
        await running.deploy("gauge", GAUGE, workers=limits)
        yield running


async def revisions(penstock: Installation) -> dict[str, int]:
    """The revision of each worker, once two run and no other is left."""
    workers = await penstock.workers("gauge")
    running = {w["id"]: w["revision"] for w in workers if w["state"] == "running"}
    return running if len(workers) == len(running) == 2 else {}


async def of(penstock: Installation, *wanted: int) -> dict[str, int]:
    async def there() -> dict[str, int]:
        found = await revisions(penstock)
        return found if sorted(found.values()) == list(wanted) else {}

    return await eventually(there, f"workers of revisions {wanted}", within_s=60)


async def ask(penstock: Installation, n: int) -> Counter[str]:
    """So many requests by a few clients at once, all of which succeed; by worker."""
    served = Counter[str]()

    async def client(n_own: int) -> None:
        for _ in range(n_own):
            status, answer = await penstock.get("gauge", "/")
            assert status == 200
            served[answer["worker"]] += 1

    await asyncio.gather(*(client(n // N_CLIENTS) for _ in range(N_CLIENTS)))
    return served


def command(penstock: Installation, *words: str) -> None:
    subprocess.run(
        [PENSTOCK, "endpoint", *words, "--data", str(penstock.data)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )


async def begin(penstock: Installation) -> dict[str, int]:
    words = ("update", "gauge", "--env", "COLOUR=blue", "--canary", "20")
    await asyncio.to_thread(command, penstock, *words)
    return await of(penstock, 1, 2)


async def test_a_fifth_of_the_requests_and_then_all_of_them(penstock: Installation) -> None:
    await of(penstock, 1, 1)
    async with traffic(penstock) as statuses:
        await enough(statuses, RATE_PER_S)
        await begin(penstock)
    assert set(statuses) == {200}

    revision_of = await of(penstock, 1, 2)

    async def takes_part() -> bool:  # the router may hear of the canary's worker after the api
        return any(revision_of[worker] == 2 for worker in await ask(penstock, 20))

    await eventually(takes_part, "the canary is asked")
    # While a side had no free slot, as one that stalls has none, it came to owe or be owed up to
    # ten requests: these settle that.
    await ask(penstock, 100)
    served = await ask(penstock, 1_000)
    n_canary = sum(n for worker, n in served.items() if revision_of[worker] == 2)
    assert abs(n_canary - 200) <= 1  # the count of the requests before goes on

    async with traffic(penstock) as statuses:
        await enough(statuses, RATE_PER_S)
        await asyncio.to_thread(command, penstock, "promote", "gauge")
        promoted = await of(penstock, 2, 2)
        await enough(statuses, len(statuses) + RATE_PER_S)
    assert set(statuses) == {200}
    assert set(await ask(penstock, 40)) <= set(promoted)


async def test_an_aborted_canary_leaves_what_ran_before(penstock: Installation) -> None:
    await of(penstock, 1, 1)
    async with traffic(penstock) as statuses:
        before = await begin(penstock)
        await asyncio.to_thread(command, penstock, "abort", "gauge")
        after = await of(penstock, 1, 3)
        await enough(statuses, len(statuses) + RATE_PER_S)
    assert set(statuses) == {200}
    assert {w for w, n in before.items() if n == 1} < set(after)
    shown = await penstock.api("GET", "/v1/endpoints/gauge")
    assert (shown["canary"], shown["env"]) == (None, {})


async def test_a_canary_that_cannot_start_ends_by_itself(penstock: Installation) -> None:
    before = await of(penstock, 1, 1)

    async def ended() -> bool:
        shown = await penstock.api("GET", "/v1/endpoints/gauge")
        return bool((shown["revision"], shown["canary"]) == (3, None))

    async with traffic(penstock) as statuses:
        broken = {"image": {"command": "sh -c 'echo no model here >&2; exit 7'"}}
        document = {"percent": 20, "change": broken}
        await penstock.api("POST", "/v1/endpoints/gauge/canary", document)
        await eventually(ended, "went back", within_s=60)
        await enough(statuses, len(statuses) + RATE_PER_S)
    assert set(statuses) == {200}

    async def as_before() -> bool:  # the last try of the canary may not have been taken away yet
        return set(before) == {w["id"] for w in await penstock.workers("gauge")}

    await eventually(as_before, "the workers of before are left, and no other")
