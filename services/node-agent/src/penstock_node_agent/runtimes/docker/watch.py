"""Whether the engine can be used, and whether a worker ended together with it.

Theory of operation.
1. A look is a fresh connection, a listing of this node's containers and a question for the engine's
   settings, in a thread of its own: it hangs with the engine, and nothing else hangs with it. One
   look is under way at most. It is begun every few ticks, and at every tick while something is
   wrong.
2. There is trouble when a look fails, when it takes longer than `answer_s`, when the event stream
   breaks (the engine's process has gone, as far as one can tell), and when the disk of the engine
   is full. A look that succeeds ends it.
3. An engine that stops, or that finds containers of a dead one, ends them. Its listener is closed
   before it stops the first container and answers after it has stopped the last one. So an end
   between the begin of the last look that succeeded and the first success after the trouble is the
   engine's, unless the engine leaves containers alone (live-restore).
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from docker import APIClient

from penstock_common.clock import Clock
from penstock_common.daemon_threads import DaemonThreads
from penstock_node_agent.runtimes.docker import containers
from penstock_node_agent.runtimes.docker.engine_disk import DiskRoom
from penstock_node_agent.runtimes.docker.errors import ENGINE_ERRORS, explanation
from penstock_node_agent.runtimes.protocol import RuntimeProblem

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

#: A look is begun every so many ticks.
_PERIOD_TICKS: Final = 5
#: How long the knock may take that is made when a worker has ended unasked.
_KNOCK_S: Final = 2.0
#: What an engine says of a container that was gone when it came: not an exit code of its own.
_LOST_CODE: Final = 255
#: Interruptions are remembered for ends that are seen late.
_REMEMBERED: Final = 20


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found."""

    begun_at: datetime
    #: workers whose container runs
    running: frozenset[str]
    #: workers whose container does not: it never did, or has ended
    idle: frozenset[str]
    #: the engine leaves containers alone when it stops
    live_restore: bool
    #: where it keeps images and containers
    root_dir: str


class EngineWatch:
    """Looks at one engine."""

    def __init__(
        self,
        connect: Callable[[float], APIClient],
        node_id: str,
        clock: Clock,
        *,
        answer_s: float,
        local: bool,
        on_listed: Callable[[Collection[str], Collection[str]], object],
        on_back: Callable[[], object],
    ) -> None:
        """Nothing is looked at yet.

        Args:
            connect: makes a client that waits so many seconds for an answer; called in a thread.
            node_id: whose containers are listed.
            clock: tells when.
            answer_s: longest time for a look; an engine that takes longer is away.
            local: the engine runs on this machine.
            on_listed: called after each look with the workers whose containers run, and with
                those whose containers do not.
            on_back: called when trouble has ended, before `on_listed`.
        """
        self._connect = connect
        self._filters = {"label": [f"{containers.NODE_LABEL}={node_id}"]}
        self._clock = clock
        self._answer_s = answer_s
        self._on_listed = on_listed
        self._on_back = on_back
        self._threads = DaemonThreads(1, "docker-look")
        self._knocks = DaemonThreads(1, "docker-knock")
        self._looking: asyncio.Future[Look] | None = None
        self._looking_since = 0.0
        self._ticks = 0
        self._trouble: RuntimeProblem | None = None
        #: the trouble is that the engine's process went away, for all one can tell
        self._gone = False
        self._room = DiskRoom(clock, local=local)
        #: when the last look that succeeded had begun, and whether containers outlive the engine
        self._good_at: datetime | None = None
        self._live_restore = False
        #: (last known good, known good again) around each trouble
        self._interruptions: list[tuple[datetime, datetime]] = []

    @property
    def problem(self) -> RuntimeProblem | None:
        """Why nothing can be started or ended at present; None = nothing is known to be wrong."""
        return self._trouble or self._room.problem

    @property
    def away(self) -> bool:
        """Whether the engine does not answer."""
        return self._trouble is not None

    def close(self) -> None:
        """Let go."""
        self._threads.close()
        self._knocks.close()

    def note_no_space(self) -> None:
        """The engine said that its disk is full."""
        self._room.note_refusal()

    def note_trouble(self, message: str, *, gone: bool) -> None:
        """Something says that the engine is away; the next tick looks.

        Args:
            message: what.
            gone: its process went away; else it only does not answer.
        """
        self._gone |= gone
        if self._trouble is not None:
            return
        self._trouble = RuntimeProblem(message, self._clock.utc())
        logger.error(
            "docker engine is away; workers run on unseen",
            extra={"action": "engine_lost", "error": message},
        )

    def tend(self) -> None:
        """See what a look found, begin another one; called about once a second, never waits."""
        self._ticks += 1
        looking = self._looking
        if looking is not None and looking.done():
            self._looking = None
            error = looking.exception()
            if error is None:
                self._settle(looking.result())
            elif isinstance(error, ENGINE_ERRORS):
                text = explanation(error)
                self.note_trouble(text, gone="timed out" not in text)
            else:
                raise error
        elif looking is not None:
            if self._clock.monotonic() - self._looking_since > self._answer_s:
                self.note_trouble(f"does not answer within {self._answer_s:g} s", gone=False)
            return
        if self._trouble is not None or self._ticks % _PERIOD_TICKS == 0:
            self._looking_since = self._clock.monotonic()
            begun_at = self._clock.utc()
            self._looking = self._threads.run(lambda: self._look(begun_at))

    def _settle(self, look: Look) -> None:
        now = self._clock.utc()
        if self._trouble is not None:
            since = self._good_at or self._trouble.since
            if self._gone:
                self._interruptions = [*self._interruptions[1 - _REMEMBERED :], (since, now)]
            self._gone = False
            away_s = (now - self._trouble.since).total_seconds()
            self._trouble = None
            logger.info(
                "docker engine is back", extra={"action": "engine_found", "away_s": round(away_s)}
            )
            self._on_back()
        self._good_at = look.begun_at
        self._live_restore = look.live_restore
        self._room.look(look.root_dir)
        self._on_listed(look.running, look.idle)

    def _look(self, begun_at: datetime) -> Look:
        # A look that hangs with a frozen engine must come back some time after it thaws.
        client = self._connect(max(self._answer_s, 1.0))
        try:
            listed = client.containers(all=True, filters=self._filters)
            info: Mapping[str, Any] = client.info()
        finally:
            client.close()
        found = [f for item in listed if (f := containers.read_found(item, "")) is not None]
        return Look(
            begun_at,
            frozenset(f.worker_id for f in found if f.address is not None),
            frozenset(f.worker_id for f in found if f.address is None),
            live_restore=bool(info.get("LiveRestoreEnabled")),
            root_dir=info.get("DockerRootDir") or "",
        )

    # ---- ends

    async def ended_with_engine(self, inspected: Mapping[str, Any]) -> bool:
        """Whether the engine ended this container, stopping or coming back; looks when in doubt.

        Args:
            inspected: an ended container.
        """
        state = inspected["State"]
        if self._live_restore and state.get("ExitCode") != _LOST_CODE:
            return False
        finished_at = parse_instant(state.get("FinishedAt") or "")
        if finished_at is None or state.get("OOMKilled"):
            return False
        if any(since <= finished_at <= until for since, until in self._interruptions):
            return True
        if self._good_at is not None and finished_at < self._good_at:
            return False
        if self._trouble is None and (problem := await self._knock()) is not None:
            self.note_trouble(problem, gone=True)
        return self._gone

    async def _knock(self) -> str | None:
        """Why no new connection can be made; None = the engine answers."""
        try:
            await self._knocks.run(lambda: self._connect(_KNOCK_S).close())
        except ENGINE_ERRORS as error:
            return explanation(error)
        return None


def parse_instant(text: str) -> datetime | None:
    """An instant as engines write it, with nanoseconds; None for "never" and what is none."""
    head, _, fraction = text.removesuffix("Z").partition(".")
    try:
        instant = datetime.fromisoformat(head).replace(tzinfo=UTC)
    except ValueError:
        return None
    if instant.year <= 1:
        return None
    return instant + timedelta(seconds=float(f"0.{fraction}") if fraction.isdecimal() else 0.0)
