"""Puts the node agent together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.lifecycle import MisconfiguredError, notify_ready
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket
from penstock_common.nats.streams import check_durability, ensure_streams
from penstock_common.secret_keys import read_sealer
from penstock_node_agent.agent import Agent, AgentParts
from penstock_node_agent.gpus.inventory import GpuInventory, static_inventory
from penstock_node_agent.gpus.nvml_probe import NvmlProbe
from penstock_node_agent.joining import join, joined
from penstock_node_agent.logs.logged_runtime import LoggedRuntime
from penstock_node_agent.node.heartbeat import Heartbeat, NodeIdentity
from penstock_node_agent.node.host_facts import read_host_facts
from penstock_node_agent.node_identity import (
    lasting_node_id,
    lock_data_dir,
    note_engine,
    ran_on_engine,
)
from penstock_node_agent.runtimes.docker.image_choice import Marks
from penstock_node_agent.runtimes.docker.image_ledger import IMAGE_LEDGER, ImageLedger
from penstock_node_agent.runtimes.process.reaper import SubreaperRefusedError, become_subreaper
from penstock_node_agent.runtimes.process.runtime import ProcessRuntime
from penstock_node_agent.runtimes.process.spawn import ProcessSettings
from penstock_node_agent.runtimes.protocol import Runtime
from penstock_node_agent.runtimes.volume_policy import VolumePolicy, kernel_has_nfs
from penstock_node_agent.settings import Settings
from penstock_node_agent.workers.leftovers import stop_leftovers

logger = logging.getLogger(__name__)


async def serve(settings: Settings, clock: Clock, stopping: asyncio.Event) -> None:
    """Run the node agent until `stopping`.

    Raises:
        MisconfiguredError: the settings cannot work here.
        PenstockError: the api that lets it in or NATS could not be reached, or the engine was lost.
    """
    data_dir = settings.data_dir.absolute()
    lock_data_dir(data_dir)
    settings = await joined(settings, clock)
    host = read_host_facts(data_dir)
    node_id = lasting_node_id(data_dir, host.hostname, settings.node_id)
    runtime = await _choose_runtime(settings, data_dir, node_id, host.memory_bytes)
    bus = await Bus.connect(settings, name=f"node-agent {node_id}", clock=clock)
    beat_bus = None
    probe = NvmlProbe() if settings.gpus == "auto" else None
    try:
        beat_bus = await Bus.connect(settings, name=f"node-agent {node_id} beats", clock=clock)
        await ensure_streams(bus, replicas=settings.nats_replicas)
        await ensure_streams(beat_bus, replicas=settings.nats_replicas)
        await check_durability(bus, settings.nats_monitor_url)
        # A process worker sees the node's disk and no volumes.
        policy = _volume_policy(settings) if runtime.kind == "docker" else VolumePolicy()
        identity = NodeIdentity(
            node_id=node_id,
            address=settings.node_address,
            labels=settings.labels,
            version=version("penstock-node-agent"),
            started_at=clock.utc(),
            volume_paths=policy.paths,
            volume_kinds=policy.kinds,
        )
        heartbeat = Heartbeat(
            bus=beat_bus,
            bucket=Bucket(beat_bus, subjects.NODES),
            identity=identity,
            runtime=runtime,
            read_gpus=probe.inventory if probe else _gpu_reader(settings.gpus),
            read_host=lambda: read_host_facts(data_dir),
            clock=clock,
        )
        if probe:
            probe.on_news = heartbeat.beat_soon
        stop_workers = settings.stop_workers_on_exit
        agent = Agent(
            AgentParts(
                node_id=node_id,
                bus=bus,
                runtime=LoggedRuntime(runtime, bus, node_id, clock),
                heartbeat=heartbeat,
                clock=clock,
                sealer=read_sealer(settings),
                stop_workers_on_exit=(
                    runtime.kind == "process" if stop_workers is None else stop_workers
                ),
                restart_grace_s=settings.restart_grace_s,
            )
        )
        await _run(agent, stopping, node_id, heartbeat.problem)
    finally:
        if probe is not None:
            await probe.close()
        if beat_bus is not None:
            await beat_bus.close()
        await bus.close()


async def join_once(settings: Settings, clock: Clock) -> None:
    """Make this host a node by its token, and keep what the agent needs; no agent may run.

    Raises:
        MisconfiguredError: the settings cannot work here, or the api refused the token.
        PenstockError: the api could not be reached.
    """
    lock_data_dir(settings.data_dir.absolute())
    await join(settings, clock)


async def stop_workers(settings: Settings) -> None:
    """End the process workers of this data directory, unless they are to outlive their agent.

    No agent may be running on it.

    Raises:
        MisconfiguredError: the settings cannot work here, or an agent runs.
        PenstockError: a worker could not be ended.
    """
    data_dir = settings.data_dir.absolute()
    lock_data_dir(data_dir)
    if settings.stop_workers_on_exit is not False:
        await stop_leftovers(_process_runtime(settings, data_dir))


async def _run(
    agent: Agent, stopping: asyncio.Event, node_id: str, check: Callable[[], str | None]
) -> None:
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(agent.run(stopping, ready), name="agent")
        saying = group.create_task(ready.wait(), name="agent ready")
        await asyncio.wait({running, saying}, return_when=asyncio.FIRST_COMPLETED)
        if ready.is_set():
            notify_ready(check=check, node_id=node_id)
        saying.cancel()


async def _choose_runtime(
    settings: Settings, data_dir: Path, node_id: str, memory_bytes: int
) -> Runtime:
    if settings.runtime == "process":
        return _process_runtime(settings, data_dir)
    # Nodes without Docker need not load its SDK for long: 50 ms.
    from penstock_node_agent.runtimes.docker.client import engine_problem
    from penstock_node_agent.runtimes.docker.containers import DockerSettings, default_shm_bytes
    from penstock_node_agent.runtimes.docker.image_cleaner import ImageCare
    from penstock_node_agent.runtimes.docker.runtime import DockerRuntime

    problem = await engine_problem(settings.docker_host)
    if problem is None:
        note_engine(data_dir, settings.docker_host)
    # A node with workers on an engine waits for it: as processes they would be others.
    if problem is None or ran_on_engine(data_dir, settings.docker_host):
        return DockerRuntime(
            DockerSettings(
                docker_host=settings.docker_host,
                node_id=node_id,
                address=settings.node_address,
                shm_bytes=settings.docker_shm_bytes or default_shm_bytes(memory_bytes),
                pids_limit=settings.docker_pids_limit,
                gpu_way=None if settings.docker_gpu_way == "auto" else settings.docker_gpu_way,
                cpus=settings.docker_cpus,
                memory_bytes=settings.docker_memory_bytes,
                volumes=_volume_policy(settings),
                pulls=settings.image_pulls,
            ),
            ImageCare(
                ledger=ImageLedger(data_dir / IMAGE_LEDGER),
                marks=Marks(settings.image_disk_low_ratio, settings.image_disk_low_bytes),
            ),
        )
    if settings.runtime == "docker":
        raise MisconfiguredError(
            f"runtime is docker, but no engine answers at {settings.docker_host}: {problem}"
        )
    logger.info(
        "no docker engine, workers run as processes",
        extra={"action": "runtime_chosen", "runtime": "process", "error": problem},
    )
    return _process_runtime(settings, data_dir)


def _volume_policy(settings: Settings) -> VolumePolicy:
    asked = settings.volume_nfs
    return VolumePolicy(
        paths=settings.volume_paths,
        nfs=kernel_has_nfs() if asked == "auto" else asked == "yes",
        driver_options=settings.volume_driver_options,
    )


def _process_runtime(settings: Settings, data_dir: Path) -> ProcessRuntime:
    cwd = (settings.process_cwd or Path.cwd()).absolute()
    if not cwd.is_dir():
        raise MisconfiguredError(f"process_cwd {cwd} is no folder")
    try:
        become_subreaper()
    except SubreaperRefusedError as error:
        raise MisconfiguredError(f"process workers cannot be looked after here: {error}") from None
    return ProcessRuntime(
        ProcessSettings(
            folder=data_dir / "workers",
            host=settings.node_address,
            cwd=cwd,
            path=settings.process_path,
            home=settings.process_home,
            ports=settings.port_range,
            reap_orphans=True,
        )
    )


def _gpu_reader(gpus: str) -> Callable[[], Awaitable[GpuInventory]]:
    inventory = GpuInventory() if gpus == "none" else static_inventory(gpus)

    async def read() -> GpuInventory:
        return inventory

    return read
