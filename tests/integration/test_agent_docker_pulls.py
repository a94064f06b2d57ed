"""Images that are not on the node: pulled from a registry, which may refuse or be away."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.protocol import Progress, StartFailedError
from tests.support.docker_workers import DockerWorkers, docker_workers
from tests.support.ports import free_port
from tests.support.small_registry import SmallRegistry

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
async def rig() -> AsyncIterator[DockerWorkers]:
    async with docker_workers() as made:
        yield made


@pytest.fixture
def registry() -> SmallRegistry:
    return SmallRegistry()


async def test_an_absent_image_is_pulled(rig: DockerWorkers, registry: SmallRegistry) -> None:
    seen: list[Progress] = []
    async with registry.serving() as image:
        order = rig.order(image=image)
        await rig.runtime.start(order, seen.append)

    assert seen == [Progress.PULLING, Progress.PULLED, Progress.CREATED, Progress.STARTED]
    assert image in await rig.runtime.images()
    await rig.runtime.wait(order.worker_id)
    await rig.runtime.remove(order.worker_id)
    await asyncio.to_thread(rig.engine.remove_image, image)


async def test_workers_of_one_image_share_its_pull(
    rig: DockerWorkers, registry: SmallRegistry
) -> None:
    registry.gate.clear()
    async with registry.serving() as image, asyncio.timeout(60):
        pulling = asyncio.Semaphore(0)
        orders = [rig.order(image=image) for _ in range(3)]

        def tell(progress: Progress) -> None:
            if progress is Progress.PULLING:
                pulling.release()

        starts = [asyncio.create_task(rig.runtime.start(o, tell), name="start") for o in orders]
        for _ in orders:
            await pulling.acquire()
        starts[0].cancel()  # the others still want it
        registry.gate.set()
        results = await asyncio.gather(*starts, return_exceptions=True)

    assert isinstance(results[0], asyncio.CancelledError)
    assert not any(isinstance(result, Exception) for result in results[1:])
    assert registry.manifests == 1
    assert rig.runtime._puller._pulls == {}
    for order in orders[1:]:
        await rig.runtime.wait(order.worker_id)
        await rig.runtime.remove(order.worker_id)
    await asyncio.to_thread(rig.engine.remove_image, image)


async def test_a_registry_that_stumbles_is_asked_again(
    rig: DockerWorkers, registry: SmallRegistry
) -> None:
    registry.refusal = (503, "UNAVAILABLE")
    registry.refusals = 1
    async with registry.serving() as image:
        order = rig.order(image=image)
        await rig.runtime.start(order)

    await rig.runtime.wait(order.worker_id)
    await rig.runtime.remove(order.worker_id)
    await asyncio.to_thread(rig.engine.remove_image, image)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ((404, "MANIFEST_UNKNOWN"), WorkerReason.IMAGE_NOT_FOUND),
        ((401, "UNAUTHORIZED"), WorkerReason.REGISTRY_AUTH_FAILED),
        # Said of repositories that do not exist, too; the message tells both.
        ((403, "DENIED"), WorkerReason.IMAGE_NOT_FOUND),
        ((503, "UNAVAILABLE"), WorkerReason.REGISTRY_UNREACHABLE),
    ],
)
async def test_a_registrys_refusal_is_understood(
    rig: DockerWorkers, registry: SmallRegistry, refusal: tuple[int, str], reason: WorkerReason
) -> None:
    registry.refusal = refusal
    async with registry.serving() as image:
        with pytest.raises(StartFailedError) as raised:
            await rig.runtime.start(rig.order(image=image))
    assert raised.value.reason is reason, str(raised.value)


async def test_a_registry_that_is_away_is_said(rig: DockerWorkers) -> None:
    with pytest.raises(StartFailedError) as raised:
        await rig.runtime.start(rig.order(image=f"127.0.0.1:{free_port()}/x:1"))
    assert raised.value.reason is WorkerReason.REGISTRY_UNREACHABLE
