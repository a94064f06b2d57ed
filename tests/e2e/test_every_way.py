"""An endpoint's whole life by each way of management, all of them seen by the others."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation, eventually
from tests.support.ways import GPU, WAYS, PausingWay

pytestmark = [pytest.mark.slow, pytest.mark.nats]


@pytest.fixture
async def penstock(tmp_path: Path) -> AsyncIterator[Installation]:
    options = ("--runtime", "process", "--gpus", f"3 x {GPU}")
    async with Installation(tmp_path / "data", *options) as running:
        yield running


async def ask(penstock: Installation, app: str) -> None:
    chat = {"model": "echo-1", "messages": [{"role": "user", "content": "all ways lead here"}]}
    url = f"{penstock.urls['router']}/{app}/v1/chat/completions"
    async with penstock.session.post(url, json=chat) as answer:
        said = await answer.json()
        assert answer.status == 200, said
    assert said["choices"][0]["message"]["content"] == "You said: all ways lead here"


async def running(penstock: Installation, app: str, n: int, revision: int) -> list[str]:
    """Ids of the workers, once so many of the revision run and there are no others."""

    async def there() -> list[str] | None:
        workers = await penstock.workers(app)
        found = [w["id"] for w in workers if (w["state"], w["revision"]) == ("running", revision)]
        return found if len(found) == len(workers) == n else None

    return await eventually(there, f"{n} workers of revision {revision} run", within_s=60)


async def state(penstock: Installation, app: str, wanted: str) -> None:
    async def reached() -> bool:
        shown: dict[str, Any] = await penstock.api("GET", f"/v1/endpoints/{app}")
        return bool(shown["state"] == wanted)

    await eventually(reached, f"{app} is {wanted}")


@pytest.mark.parametrize("name", WAYS)
async def test_an_endpoint_lives_its_life(
    penstock: Installation, tmp_path: Path, name: str
) -> None:
    async with WAYS[name](penstock, tmp_path) as way:
        app = await way.create(name)
        assert app == name
        await eventually(lambda: way.serves(app), "it serves")
        await ask(penstock, app)
        (first,) = await running(penstock, app, 1, 1)

        await way.scale(app, 2, 3)
        workers = await running(penstock, app, 2, 1)
        assert first in workers, "a change of limits touches no worker"

        await way.update(app, GREETING="hello")
        while (await penstock.api("GET", f"/v1/endpoints/{app}"))["state"] == "updating":
            await ask(penstock, app)
        assert not set(workers) & set(await running(penstock, app, 2, 2))
        await ask(penstock, app)

        if isinstance(way, PausingWay):
            await way.pause(app)
            await state(penstock, app, "paused")
            await penstock.no_workers(app, within_s=60)
            await way.resume(app)
            await running(penstock, app, 2, 2)
            await ask(penstock, app)

        await way.delete(app)

        async def gone() -> bool:
            async with penstock.session.get(f"{penstock.urls['api']}/v1/endpoints/{app}") as answer:
                return answer.status == 404

        await eventually(gone, f"{app} is gone", within_s=60)
        async with asyncio.timeout(60):
            url = f"{penstock.urls['router']}/{app}/v1/models"
            while True:
                async with penstock.session.get(url) as answer:
                    if answer.status == 404:
                        return
                await asyncio.sleep(0.05)
