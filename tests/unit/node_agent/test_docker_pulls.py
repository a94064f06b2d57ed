"""Pulls: so many at once and no more, each image once."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

from penstock_node_agent.runtimes.docker.pulls import ImagePuller


class Engine:
    """Pulls that end when a test says so."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.go = threading.Event()
        self.begun: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def pull(self, image: str, **_: Any) -> Iterator[dict[str, Any]]:
        with self.lock:
            self.begun.append(image)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self._loop.call_soon_threadsafe(self.changed.set)
        assert self.go.wait(60)
        with self.lock:
            self.at_once -= 1
        yield {"status": "done"}

    def close(self) -> None:
        return

    async def until_begun(self, n: int) -> None:
        async with asyncio.timeout(60):
            while len(self.begun) < n:
                self.changed.clear()
                await self.changed.wait()


async def test_so_many_pulls_run_at_once_and_each_image_once() -> None:
    engine: Any = Engine()
    puller = ImagePuller(lambda _timeout_s: engine, (), limit=2)
    images = [f"a/{n}:1" for n in range(5)]
    pulls = [asyncio.create_task(puller.pull(image), name=image) for image in images * 3]
    await engine.until_begun(2)
    engine.go.set()
    await asyncio.gather(*pulls)
    puller.close()
    assert sorted(engine.begun) == images
    assert engine.most_at_once == 2
