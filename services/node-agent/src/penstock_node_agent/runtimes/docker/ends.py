"""Ends of containers: waiting for them, and bringing them about.

No call waits for a worker in a thread: whoever waits is woken (`look_at`) by the engine's event
stream, or by a listing every few seconds that finds what the stream missed, and then asks.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.docker import containers
from penstock_node_agent.runtimes.docker.calls import EngineCalls
from penstock_node_agent.runtimes.docker.errors import (
    ENGINE_ERRORS,
    engine_failure,
    explanation,
    is_status,
)
from penstock_node_agent.runtimes.docker.watch import EngineWatch
from penstock_node_agent.runtimes.oom_kills import OomKills
from penstock_node_agent.runtimes.protocol import (
    BoundExceededError,
    Exit,
    RuntimeFailedError,
    StopFailedError,
)

_END_POLL_S: Final = 1.0
#: From SIGKILL to the engine's word that the container has ended.
KILL_WAIT_S: Final = 15.0
_SIGKILL_CODE: Final = 137
#: From the kernel's kill for want of memory to the engine's word that the container has ended.
_OOM_TICKS: Final = 15
#: That it was for want of memory the engine may hear behind the end, and then never shows it
#: (`OOMKilled`) but tells of it as an event; when the container is gone by then, it never hears it.
#: The kernel of this machine is asked itself; for an engine elsewhere the event is waited for.
_OOM_WORD_S: Final = 1.0


class ContainerEnds:
    """Waits for ends of one node's containers, and ends them."""

    def __init__(
        self,
        engine: EngineCalls,
        watch: EngineWatch,
        disk_problem: Callable[[str], str | None],
        *,
        local: bool,
    ) -> None:
        """Nothing known yet.

        Args:
            engine: who is asked.
            watch: knows whether a worker ended with its engine.
            disk_problem: says what is wrong with a worker's disk.
            local: the engine runs on this machine.
        """
        self._engine = engine
        self._watch = watch
        self._disk_problem = disk_problem
        self._oom_kills = OomKills(_OOM_TICKS) if local else None
        #: workers started or listed by this process; set = look whether it has ended
        self._known: dict[str, asyncio.Event] = {}
        #: those of which the kernel killed a process for want of memory
        self._starved: set[str] = set()
        #: those that this process has sent SIGKILL
        self._killed: set[str] = set()

    def tick(self) -> None:
        """About a second has passed."""
        if self._oom_kills is not None:
            self._oom_kills.tick()

    @property
    def known(self) -> set[str]:
        """Workers of which there is a container, or may be."""
        return set(self._known)

    def note(self, worker_id: str) -> None:
        """There is, or may be, a container of this worker."""
        self._known.setdefault(worker_id, asyncio.Event())

    def forget(self, worker_id: str) -> None:
        """Nothing is left of it."""
        self._known.pop(worker_id, None)
        self._starved.discard(worker_id)
        self._killed.discard(worker_id)

    def look_for_ends(self, running: Iterable[str]) -> None:
        """Have the waiters of all workers but these ask."""
        for worker_id in self._known.keys() - set(running):
            self.look_at(worker_id)

    def look_at(self, worker_id: str | None) -> None:
        """Have the waiters of a worker, or of all, ask whether it has ended."""
        for known, event in self._known.items():
            if worker_id in (None, known):
                event.set()

    def note_oom(self, worker_id: str) -> None:
        """The kernel has killed a process of the worker for want of memory."""
        if worker_id in self._known:
            self._starved.add(worker_id)
            self.look_at(worker_id)

    async def wait(self, worker_id: str) -> Exit:
        """Wait for the engine's word that the container has ended."""
        looking = self._known.get(worker_id)
        if looking is None:
            raise RuntimeFailedError(f"there is no worker {worker_id}")
        while True:
            looking.clear()
            try:
                ended = await self.try_exit(worker_id)
            except RuntimeFailedError:
                ended = None  # the engine is away; who watches it says so, and we look again
            if ended is not None:
                return await self._with_late_word(worker_id, looking, ended)
            if (problem := self._disk_problem(worker_id)) is not None:
                raise BoundExceededError(WorkerReason.DISK_EXCEEDED, problem)
            await looking.wait()

    async def _with_late_word(self, worker_id: str, looking: asyncio.Event, ended: Exit) -> Exit:
        """The same end, killed for want of memory if the kernel or, later, the engine says so."""
        explained = ended.oom_killed or ended.with_engine or worker_id in self._killed
        if ended.code != _SIGKILL_CODE or explained:
            return ended
        if worker_id in self._starved:
            return replace(ended, oom_killed=True)
        lately = self._oom_kills.lately if self._oom_kills is not None else None
        if lately is not None:
            return replace(ended, oom_killed=lately)
        with suppress(TimeoutError):
            async with asyncio.timeout(_OOM_WORD_S):
                while worker_id not in self._starved:
                    looking.clear()
                    await looking.wait()
        return replace(ended, oom_killed=worker_id in self._starved)

    async def try_exit(self, worker_id: str) -> Exit | None:
        """How the container ended; without a code when it is gone; None while it runs."""
        inspected = await self._try_inspect(worker_id)
        if inspected is None:
            return Exit(None)
        ended = containers.read_exit(inspected)
        if ended is not None and await self._watch.ended_with_engine(inspected):
            return replace(ended, with_engine=True)
        return ended

    async def _try_inspect(self, worker_id: str) -> Mapping[str, Any] | None:
        name = containers.container_name(worker_id)
        try:
            found: Mapping[str, Any] = await self._engine.for_worker(
                worker_id, lambda: self._engine.client.inspect_container(name)
            )
        except ENGINE_ERRORS as error:
            if is_status(error, 404):
                return None
            raise engine_failure(error) from error
        return found

    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        """The image's stop signal (SIGTERM by default), grace, SIGKILL."""
        while True:
            inspected = await self._try_inspect(worker_id)
            if inspected is None:
                return None
            if inspected["State"].get("Status") != "created":
                break
            # The engine may still begin a start that nobody waits for any more. Once the container
            # is gone it cannot.
            if await self._try_remove(worker_id):
                return Exit(None)
        self.note(worker_id)
        first = inspected["Config"].get("StopSignal") or "SIGTERM"
        for number, wait_s in ((first, grace_s), ("SIGKILL", KILL_WAIT_S)):
            await self._signal(worker_id, number)
            ended = await self._exit_within(worker_id, wait_s)
            if ended is not None:
                return ended
        name = containers.container_name(worker_id)
        raise StopFailedError(f"container {name} survives SIGKILL")

    async def _try_remove(self, worker_id: str) -> bool:
        """Remove a container that never ran; False when it has been started after all."""
        name = containers.container_name(worker_id)
        try:
            await self._engine.for_worker(
                worker_id, lambda: self._engine.client.remove_container(name, v=True)
            )
        except ENGINE_ERRORS as error:
            if is_status(error, 404):
                return True
            if is_status(error, 409) and "running container" in explanation(error):
                return False
            raise engine_failure(error) from error
        return True

    async def _signal(self, worker_id: str, number: str) -> None:
        name = containers.container_name(worker_id)
        if number == "SIGKILL":
            self._killed.add(worker_id)
        try:
            await self._engine.for_worker(worker_id, lambda: self._engine.client.kill(name, number))
        except ENGINE_ERRORS as error:
            # 404, 409: there is nothing to signal any more.
            if not is_status(error, 404) and not is_status(error, 409):
                raise engine_failure(error) from error

    async def _exit_within(self, worker_id: str, wait_s: float) -> Exit | None:
        looking = self._known.setdefault(worker_id, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while True:
                    looking.clear()
                    ended = await self.try_exit(worker_id)
                    if ended is not None:
                        return ended
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_END_POLL_S):
                            await looking.wait()
        return None
