"""Starts processes, waits until they are ready, starts them again, and stops them all.

Theory of operation. A child tells that it is ready by systemd's protocol (a datagram `READY=1` to
the socket in NOTIFY_SOCKET) or, when it cannot, a probe of the supervisor's finds out. A child that
ends by itself is started again as `restart.py` decides. Each child runs in a session of its own, so
that Ctrl-C reaches the supervisor alone, which then stops the children in their order: terminate by
pid, wait a grace, kill. A supervisor that is killed takes its children with it: the kernel sends
them SIGTERM (prctl(2), PR_SET_PDEATHSIG).
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from penstock_cli.local.child_log import ChildLog
from penstock_cli.local.restart import Deaths, GiveUp, decide_restart
from penstock_common.clock import Clock
from penstock_common.lifecycle import SUPERVISOR_VARIABLE

_PR_SET_PDEATHSIG = 1
#: Pause between two looks whether a child that serves must be started again.
AILMENT_LOOK_S = 5.0
_LONGEST_LINE_BYTES = 1 << 20
#: Exit code by which a service says that its settings cannot work; it is not started again.
MISCONFIGURED = 2


class ChildFailedError(Exception):
    """A child cannot run; `exit_code` is what the supervisor should end with."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep running."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    #: stopped in rising order; equal ones together
    stop_order: int
    #: between SIGTERM and SIGKILL
    stop_grace_s: float
    #: for a child that does not notify: true once it serves
    probe: Callable[[], Awaitable[bool]] | None = None
    #: asked every few seconds while it serves: why it has to be started again; None = it need not
    ailment: Callable[[], Awaitable[str | None]] | None = None


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    log: ChildLog
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    #: last error that it logged and last line that it wrote, for the one line that says why
    #: everything stops
    last_error: str = ""
    last_line: str = ""


class Supervisor:
    """Keeps children running until `stop`."""

    def __init__(
        self,
        *,
        clock: Clock,
        open_log: Callable[[str], ChildLog],
        echo: Callable[[str, str], None],
        on_change: Callable[[], None],
        notify_folder: Path,
    ) -> None:
        """Take what it needs of the outside.

        Args:
            clock: how long children lived.
            open_log: gives the log of a child by name.
            echo: shows one line of a child's output (name, line).
            on_change: called when a child was started (its pid is new).
            notify_folder: a private folder for the notify sockets.
        """
        self._clock = clock
        self._open_log = open_log
        self._echo = echo
        self._on_change = on_change
        self._notify_folder = notify_folder
        self._children: dict[str, _Child] = {}
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._sockets: list[socket.socket] = []
        self._failure: asyncio.Future[ChildFailedError] | None = None
        self._stopping = False

    @property
    def pids(self) -> dict[str, int]:
        """Name → pid of the children that run."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.process.returncode is None
        }

    async def start(self, specs: Sequence[ChildSpec], *, wait_s: float) -> None:
        """Start these children and wait until all are ready.

        Raises:
            ChildFailedError: one cannot run, or is not ready within `wait_s` seconds.
        """
        for spec in specs:
            child = _Child(spec, self._open_log(spec.name))
            self._children[spec.name] = child
            self._listen_for_ready(child)
            self._spawn_task(self._keep_running(child), spec.name)
        all_ready = asyncio.create_task(self._until_ready(specs), name="until ready")
        failure = self._failure_future()
        try:
            done, _ = await asyncio.wait(
                (all_ready, failure), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            all_ready.cancel()
        if failure in done:
            raise failure.result()
        if not done:
            late = [s.name for s in specs if not self._children[s.name].ready.is_set()]
            raise ChildFailedError(
                f"not ready after {wait_s:.0f} s: {', '.join(late)}", exit_code=1
            )

    async def _until_ready(self, specs: Sequence[ChildSpec]) -> None:
        for spec in specs:
            await self._children[spec.name].ready.wait()

    async def failed(self) -> ChildFailedError:
        """Wait until a child cannot be kept running any more, and say why."""
        return await asyncio.shield(self._failure_future())

    async def stop(self) -> None:
        """Stop every child in order; bounded by the sum of the graces."""
        self._stopping = True
        orders = sorted({child.spec.stop_order for child in self._children.values()})
        for order in orders:
            await asyncio.gather(
                *(self._stop(c) for c in self._children.values() if c.spec.stop_order == order)
            )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        for child in self._children.values():
            child.log.close()

    def _failure_future(self) -> asyncio.Future[ChildFailedError]:
        if self._failure is None:
            self._failure = asyncio.get_running_loop().create_future()
        return self._failure

    def _fail(self, error: ChildFailedError) -> None:
        failure = self._failure_future()
        if not failure.done():
            failure.set_result(error)

    def _spawn_task(self, coroutine: Awaitable[None], name: str) -> None:
        async def guarded() -> None:
            try:
                await coroutine
            except Exception as error:  # noqa: BLE001 - a dead task must end everything, loudly
                self._fail(
                    ChildFailedError(f"{name}: supervising it failed: {error!r}", exit_code=1)
                )

        self._tasks[asyncio.create_task(guarded(), name=name)] = name

    def _socket_path(self, name: str) -> str:
        return str(self._notify_folder / f"{name}.sock")

    def _listen_for_ready(self, child: _Child) -> None:
        if child.spec.probe is not None:
            return
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind(self._socket_path(child.spec.name))

        def on_readable() -> None:
            with contextlib.suppress(BlockingIOError):
                if b"READY=1" in sock.recv(4096).split(b"\n"):
                    child.ready.set()

        asyncio.get_running_loop().add_reader(sock, on_readable)
        self._sockets.append(sock)

    async def _keep_running(self, child: _Child) -> None:
        deaths = Deaths()
        while not self._stopping:
            child.ready.clear()
            started_at = self._clock.monotonic()
            code = await self._run_once(child)
            if self._stopping:
                return
            lived_s = self._clock.monotonic() - started_at
            if code == MISCONFIGURED and not child.ready.is_set():
                why = child.last_error or "its settings cannot work"
                self._fail(ChildFailedError(why, exit_code=MISCONFIGURED))
                return
            decision = decide_restart(deaths, lived_s, was_ready=child.ready.is_set())
            ended = f"ended with {_exit_text(code)} after {lived_s:.1f} s"
            if isinstance(decision, GiveUp):
                why = f"{child.spec.name} {ended}, the {decision.failed_starts}th failed start"
                said = child.last_error or child.last_line
                why += f": {said}" if said else ""
                self._fail(ChildFailedError(why, exit_code=1))
                return
            self._echo(child.spec.name, f"{ended}; starting it again in {decision.delay_s:.1f} s")
            deaths = decision.deaths
            await asyncio.sleep(decision.delay_s)

    async def _run_once(self, child: _Child) -> int:
        """Start the child, relay its output, and give its exit code when it ended."""
        spec = child.spec
        env = {
            **spec.env,
            SUPERVISOR_VARIABLE: str(os.getpid()),
            "NOTIFY_SOCKET": self._socket_path(spec.name),
        }
        # A pipe of our own: with asyncio's, `wait` would also wait until the output is closed by
        # whatever the child has started.
        reading, writing = os.pipe()
        try:
            child.process = await asyncio.create_subprocess_exec(
                *spec.argv,
                env=env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._on_change()
        relay = asyncio.create_task(self._relay(child, reading), name=f"relay {spec.name}")
        beside = [relay]
        if spec.probe is not None:
            beside.append(asyncio.create_task(self._probe_until_ready(child)))
        if spec.ailment is not None:
            beside.append(asyncio.create_task(self._end_when_ailing(child)))
        try:
            code = await child.process.wait()
            # Take what it has written, but wait no longer for those it has started.
            await asyncio.wait((relay,), timeout=0.5)
            return code
        finally:
            for task in beside:
                task.cancel()

    async def _relay(self, child: _Child, reading: int) -> None:
        stdout = asyncio.StreamReader(limit=_LONGEST_LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(reading, "rb", buffering=0)
        )
        try:
            await self._relay_lines(child, stdout)
        finally:
            transport.close()

    async def _relay_lines(self, child: _Child, stdout: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await stdout.readline()
            except ValueError:  # longer than the limit: asyncio has dropped what it held of it
                continue
            if not line:
                return
            child.log.write(line)
            text = line.decode(errors="replace").rstrip()
            child.last_error = error_in(text) or child.last_error
            child.last_line = text or child.last_line
            self._echo(child.spec.name, text)

    async def _probe_until_ready(self, child: _Child) -> None:
        assert child.spec.probe is not None
        while not await child.spec.probe():  # noqa: ASYNC110 - nothing tells us but asking
            await asyncio.sleep(0.02)
        child.ready.set()

    async def _end_when_ailing(self, child: _Child) -> None:
        """End the child once it must be started again, which is then done as after any end."""
        assert child.spec.ailment is not None
        await child.ready.wait()
        while (why := await child.spec.ailment()) is None:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(AILMENT_LOOK_S)
        self._echo(child.spec.name, why)
        await self._stop(child)

    async def _stop(self, child: _Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(child.spec.stop_grace_s):
                await process.wait()
        except TimeoutError:
            self._echo(
                child.spec.name, f"did not stop within {child.spec.stop_grace_s:.1f} s: killed"
            )
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def error_in(line: str) -> str:
    """The error that this log line tells, or ''."""
    try:
        record = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(record, dict) or record.get("level") not in ("error", "critical"):
        return ""
    exception = str(record.get("exception", "")).strip().splitlines()
    return str(record.get("error") or (exception[-1] if exception else record.get("message", "")))


def die_with_parent() -> None:
    """In the child, before exec: end when the supervisor does (kept over exec; Linux only)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _exit_text(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"code {code}"
