"""The node agent: reconciles the workers that should be on this node with those that are.

Like a kubelet: what should be stands in the rows of WORKERS under this node's id, what is tells
the runtime. Each worker has a keeper; the agent makes keepers and tells them what is wanted.

1. Rows that appear or change act at once. Rows that are missing act only while the table is
   synced: without NATS, workers run on.
2. After a restart, workers that the runtime has are taken over, and none that should run is ended.
3. `tick` alone converges: watches only make it quicker.
4. An agent that is told to end (an upgrade) and whose workers run on says so in its last heartbeat:
   until that expires the node is awaited back and none of its workers is replaced.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from penstock_common import subjects
from penstock_common.clock import Clock
from penstock_common.events.catalogue import (
    NODE_ENGINE_FOUND,
    NODE_ENGINE_LOST,
    NODE_IMAGE_REMOVED,
    NODE_JOINED,
    NODE_LEFT,
    NODE_RESTARTING,
    Service,
)
from penstock_common.events.publisher import EventPublisher
from penstock_common.messages import NodeRecord, WorkerAssignment, WorkerStatus
from penstock_common.nats.connection import Bus
from penstock_common.nats.kv import Bucket, Row, WatchedTable
from penstock_common.sealing import Sealer
from penstock_common.states import DesiredState, WorkerReason
from penstock_node_agent.gpus.news import gpu_news
from penstock_node_agent.node.heartbeat import Heartbeat, wire_problem
from penstock_node_agent.prewarms import PrewarmParts, Prewarms
from penstock_node_agent.records.network_volumes import NetworkVolumes
from penstock_node_agent.records.registry_auths import RegistryAuths
from penstock_node_agent.runtimes.protocol import Found, Runtime, RuntimeFailedError, RuntimeProblem
from penstock_node_agent.status_board import StatusBoard
from penstock_node_agent.workers.decide import FoundState, resume
from penstock_node_agent.workers.keeper import Keeper, KeeperTools, Resumed

logger = logging.getLogger(__name__)

TICK_S: Final = 1.0
#: A graceful end takes at most: grace, SIGKILL's work, the last statuses.
EXIT_GRACE_S: Final = 3.0
_EXIT_KILL_S: Final = 1.5
_FLUSH_S: Final = 1.0
#: Between two tries to reach an engine at the start; a node's record outlives the longest.
_MIN_OPEN_S: Final = 0.5
_MAX_OPEN_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What an agent is made of."""

    node_id: str
    bus: Bus
    runtime: Runtime
    heartbeat: Heartbeat
    clock: Clock
    #: opens secrets; None = the node has no key
    sealer: Sealer | None
    #: a graceful end stops the workers; else they run on and are taken over later
    stop_workers_on_exit: bool
    #: when workers run on: whole seconds for which the node is awaited back; 0 = it is gone at once
    restart_grace_s: int
    #: how long a start is tried again while the engine fails, seconds
    engine_patience_s: float = 30.0


class Agent:
    """One node's agent."""

    def __init__(self, parts: AgentParts) -> None:
        """An agent that is not run yet; the runtime is not open yet."""
        node_id = parts.node_id
        self._parts = parts
        self._board: StatusBoard[WorkerStatus] = StatusBoard(
            parts.bus, Bucket(parts.bus, subjects.WORKER_STATUS)
        )
        self._events = EventPublisher(parts.bus, parts.clock, Service.NODE_AGENT, node_id)
        parts.heartbeat.on_record = self._tell_gpus
        self._tools = KeeperTools(
            node_id=node_id,
            runtime=parts.runtime,
            board=self._board,
            events=self._events,
            clock=parts.clock,
            sealer=parts.sealer,
            open_auth=RegistryAuths(Bucket(parts.bus, subjects.REGISTRY_AUTHS), parts.sealer).open,
            read_mounts=NetworkVolumes(Bucket(parts.bus, subjects.VOLUMES)).mounts,
            engine_patience_s=parts.engine_patience_s,
            sick_gpus=parts.heartbeat.sick_gpus,
        )
        self._prewarms = Prewarms(
            PrewarmParts(
                node_id=node_id,
                bus=parts.bus,
                runtime=parts.runtime,
                read_products=lambda: parts.heartbeat.products,
                open_auth=self._tools.open_auth,
                clock=parts.clock,
            )
        )
        keys = subjects.node_worker_keys(node_id)
        self._assignments = WatchedTable(
            parts.bus,
            subjects.WORKERS,
            WorkerAssignment.decode,
            keys=keys,
            on_change=self._on_assignment,
            on_synced=self._wake_up,
        )
        self._statuses = WatchedTable(
            parts.bus, subjects.WORKER_STATUS, WorkerStatus.decode, keys=keys
        )
        self._keepers: dict[str, Keeper] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        #: what the runtime had when the agent came, until a keeper has it
        self._found: dict[str, Found] = {}
        #: what was told last of the runtime
        self._problem: RuntimeProblem | None = None
        self._group: asyncio.TaskGroup | None = None
        self._wake = asyncio.Event()

    @property
    def keepers(self) -> int:
        """How many workers it looks after, ended ones that are still assigned included."""
        return len(self._keepers)

    async def run(self, stopping: asyncio.Event, ready: asyncio.Event) -> None:
        """Serve until `stopping`, then end gracefully; sets `ready` once it serves.

        Raises:
            PenstockError: the runtime or NATS could not be reached at the start.
        """
        parts = self._parts
        try:
            if not await self._open_runtime(stopping):
                return
            await self._statuses.start()
            try:
                async with asyncio.TaskGroup() as group:
                    self._group = group
                    writers = [
                        group.create_task(self._board.run(), name="status board"),
                        group.create_task(self._events.run(), name="events"),
                    ]
                    await self._assignments.start()
                    self._reconcile()
                    record = await parts.heartbeat.beat()
                    self._events.announce(NODE_JOINED.of(record))
                    loops = [
                        group.create_task(parts.heartbeat.run(), name="heartbeat"),
                        group.create_task(self._loop(), name="reconcile loop"),
                    ]
                    if parts.runtime.kind == "docker":
                        loops.append(group.create_task(self._prewarms.run(), name="prewarms"))
                    ready.set()
                    await stopping.wait()
                    await _end(*loops)
                    await self._leave(record)
                    await _end(*self._keeping, *writers)
            finally:
                self._group = None
                await self._assignments.stop()
                await self._statuses.stop()
        finally:
            await parts.runtime.close()

    def _tell_gpus(self, before: NodeRecord | None, now: NodeRecord) -> None:
        for what, news in gpu_news(before, now):
            bad = news.gpu.reason is not None
            logger.log(
                logging.ERROR if bad else logging.INFO,
                "a GPU went bad" if bad else "a GPU is healthy again",
                extra={
                    "action": what.verb,
                    "gpu": news.gpu.uuid,
                    "reason": news.gpu.reason,
                    "error": news.gpu.message,
                },
            )
            self._events.announce(what.of(news))

    async def _open_runtime(self, stopping: asyncio.Event) -> bool:
        """Learn what runs here; False when it is told to stop before.

        An engine that is away now may come: who knows nothing of this node's workers begins and
        ends none until then, but the node says that it lives and what is wrong.
        """
        parts, pause_s = self._parts, _MIN_OPEN_S
        while True:
            try:
                await parts.runtime.open()
                self._found = {f.worker_id: f for f in await parts.runtime.list_workers()}
            except RuntimeFailedError as error:
                logger.error(
                    "workers of this node are not known, asking again",
                    extra={"action": "workers_unknown", "error": str(error), "pause_s": pause_s},
                )
            else:
                return True
            await parts.heartbeat.try_beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stopping.wait()
                    return False
            pause_s = min(2 * pause_s, _MAX_OPEN_S)

    async def _loop(self) -> None:
        while True:
            await self.tick()
            self._wake.clear()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def tick(self) -> None:
        """Bring everything in line once."""
        self._reconcile()
        if self._statuses.synced and self._assignments.synced:
            self._board.compare(self._statuses.rows)
        for removed in await self._parts.runtime.tend():
            self._events.announce(NODE_IMAGE_REMOVED.of(removed))
        self._tell_problem()

    def _tell_problem(self) -> None:
        problem = self._parts.runtime.problem
        if (problem is None) is (self._problem is None):
            return
        self._problem = problem
        self._parts.heartbeat.beat_soon()
        if problem is None:
            for keeper in self._keepers.values():
                keeper.retry()
        what = NODE_ENGINE_LOST if problem is not None else NODE_ENGINE_FOUND
        if (record := self._parts.heartbeat.last) is not None:
            told = record.model_copy(update={"engine_problem": wire_problem(problem)})
            self._events.announce(what.of(told))

    def _wake_up(self) -> None:
        self._wake.set()

    # ---- reconcile

    def _on_assignment(self, key: str, row: Row[WorkerAssignment] | None) -> None:
        if self._group is None:
            return
        if row is not None:
            self._want(key, row.value)
        elif self._assignments.synced:
            self._want(key, None)
        # A row that a new listing lacks is looked at once that is whole: `on_synced` wakes us.

    def _reconcile(self) -> None:
        rows = self._assignments.rows
        for key, row in rows.items():
            self._want(key, row.value)
        if not self._assignments.synced:
            return
        prefix = subjects.worker_key(self._parts.node_id, "")
        known = {prefix + worker_id for worker_id in {*self._keepers, *self._found}}
        for key in known - rows.keys():
            self._want(key, None)

    def _want(self, key: str, assignment: WorkerAssignment | None) -> None:
        worker_id = key.rpartition(".")[2]
        keeper = self._keepers.get(worker_id)
        if keeper is None:
            if assignment is None and worker_id not in self._found:
                return
            wanted = assignment.desired if assignment is not None else None
            keeper = self._new_keeper(worker_id, key, wanted)
        keeper.want(assignment)

    def _new_keeper(self, worker_id: str, key: str, wanted: DesiredState | None) -> Keeper:
        assert self._group is not None
        found = self._found.pop(worker_id, None)
        row = self._statuses.rows.get(key)
        status = row.value if row is not None else None
        resumed = Resumed(
            view=resume(status, _state_of(found), wanted=wanted),
            address=found.address if found is not None else None,
            phases=dict(status.phases) if status is not None else {},
            status=status,
        )
        keeper = Keeper(worker_id, key, self._tools, resumed)
        self._keepers[worker_id] = keeper
        task = self._group.create_task(self._keep(keeper), name=f"keeper {worker_id}")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        return keeper

    async def _keep(self, keeper: Keeper) -> None:
        await keeper.run()
        del self._keepers[keeper.worker_id]

    # ---- the end

    async def _leave(self, record: NodeRecord) -> None:
        # First of all, so that no worker is placed here any more.
        parts = self._parts
        returns = self._keepers and not parts.stop_workers_on_exit and parts.restart_grace_s
        if returns:
            await parts.heartbeat.leave_for(parts.restart_grace_s)
        else:
            await parts.heartbeat.leave()
        if parts.stop_workers_on_exit:
            await self._stop_workers()
        self._events.announce((NODE_RESTARTING if returns else NODE_LEFT).of(record))
        if not await self._board.flush(_FLUSH_S):
            logger.warning(
                "statuses not written at the end",
                extra={"action": "statuses_unwritten", "count": self._board.unwritten},
            )
        await self._events.flush(_FLUSH_S)

    async def _stop_workers(self) -> None:
        for keeper in self._keepers.values():
            keeper.end(WorkerReason.AGENT_STOPPED, EXIT_GRACE_S)
        try:
            async with asyncio.timeout(EXIT_GRACE_S + _EXIT_KILL_S):
                for keeper in list(self._keepers.values()):
                    await keeper.settled.wait()
        except TimeoutError:
            left = [k.worker_id for k in self._keepers.values() if not k.settled.is_set()]
            logger.error(
                "workers survive the agent", extra={"action": "workers_left", "workers": left}
            )


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _state_of(found: Found | None) -> FoundState | None:
    if found is None:
        return None
    return FoundState(
        created_only=found.created_only,
        running=found.address is not None,
        exit_code=found.exit.code if found.exit is not None else None,
        oom_killed=found.exit.oom_killed if found.exit is not None else False,
        with_engine=found.exit.with_engine if found.exit is not None else False,
    )
