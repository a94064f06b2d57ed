"""A runtime in memory whose workers really listen, and fail when a test says so.

It passes the contract tests of the real ones. A worker's program is its command:
`("serve",)`, `("exit", "3")`, `("stubborn",)` (serves, ignores SIGTERM), `("print", line, …)`
(prints, then serves), `("print-and-exit", line, …)`. `FakeHost` is the machine: it outlives the agent's runtime objects.
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from typing_extensions import override

from penstock_common.messages import ImageRemoved, OutputName, RuntimeKind
from penstock_common.states import WorkerReason
from penstock_node_agent.runtimes.listener import Listener
from penstock_node_agent.runtimes.output import Cursor, Output, OutputLine, Skim, read_all
from penstock_node_agent.runtimes.protocol import (
    BoundExceededError,
    Exit,
    Found,
    ImageWish,
    Progress,
    RunningImage,
    Runtime,
    RuntimeFailedError,
    RuntimeProblem,
    Started,
    StartFailedError,
    StartOrder,
)
from penstock_node_agent.runtimes.pull_bytes import PulledBytes

SIGTERM_CODE = 143
SIGKILL_CODE = 137
STDERR = "stderr: "


@dataclass(eq=False)
class FakeWorker:
    """One worker of a fake host."""

    order: StartOrder
    server: asyncio.Server
    port: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    exit: Exit | None = None
    #: raised by `wait` while it runs
    beyond: BoundExceededError | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    lines: list[str] = field(default_factory=list)
    written: asyncio.Event = field(default_factory=asyncio.Event)
    #: HTTP status that its server answers with; 0 = it accepts and stays silent
    status: int = 200
    requests: int = 0

    def end(self, code: int, **fields: bool) -> None:
        """It ends with this exit code, and other fields of `Exit`."""
        if self.exit is None:
            self.server.close()
            self.exit = Exit(code, **fields)
            self.ended.set()
            self.changed.set()
            self.written.set()

    def write(self, *lines: str) -> None:
        """It writes these lines; one that begins with `STDERR` goes there."""
        self.lines += lines
        self.written.set()

    def exceed(self, error: BoundExceededError) -> None:
        """It is found beyond a bound of its own."""
        self.beyond = error
        self.changed.set()


class FakeHost:
    """What the fake runtimes of one node share: its workers, and what shall go wrong."""

    def __init__(self) -> None:
        self.workers: dict[str, FakeWorker] = {}
        #: ids in the order in which they were started; one started twice stands here twice
        self.started: list[str] = []
        #: raised by the next starts, one each
        self.start_errors: deque[Exception] = deque()
        #: exits with which the next workers end at once, one each
        self.early_exits: deque[Exit] = deque()
        #: raised by the next stops, one each
        self.stop_errors: deque[Exception] = deque()
        #: set = starts go through
        self.gate = asyncio.Event()
        self.gate.set()
        #: set = stops that raise nothing go through
        self.stop_gate = asyncio.Event()
        self.stop_gate.set()
        #: status with which new workers' servers answer
        self.status = 200
        self.grace: dict[str, float] = {}
        #: images that were pulled ahead, in order, and that must stay
        self.prewarmed: list[str] = []
        self.kept_images: frozenset[str] = frozenset()
        #: told by the next `tend`
        self.images_removed: list[ImageRemoved] = []
        #: what the runtimes say is wrong with them
        self.problem: RuntimeProblem | None = None

    async def close(self) -> None:
        """End all."""
        for worker in self.workers.values():
            worker.end(SIGKILL_CODE)


class FakeRuntime(Runtime):
    """Runs workers as servers in this process."""

    def __init__(self, host: FakeHost, kind: RuntimeKind = "process") -> None:
        self.host = host
        self._kind = kind

    @property
    @override
    def kind(self) -> RuntimeKind:
        return self._kind

    @property
    @override
    def proxied_ports(self) -> bool:
        return False

    @property
    @override
    def problem(self) -> RuntimeProblem | None:
        return self.host.problem

    @override
    async def open(self) -> None:
        return

    @override
    async def list_workers(self) -> tuple[Found, ...]:
        return tuple(
            Found(
                worker_id,
                None if worker.exit else Started("127.0.0.1", worker.port),
                exit=worker.exit,
                endpoint_id=worker.order.endpoint_id,
            )
            for worker_id, worker in self.host.workers.items()
        )

    @override
    async def start(
        self,
        order: StartOrder,
        on_progress: Callable[[Progress], None] | None = None,
        on_bytes: Callable[[PulledBytes], None] | None = None,
    ) -> Started:
        report = on_progress or (lambda _progress: None)
        if not self.host.gate.is_set():
            report(Progress.PULLING)
            await self.host.gate.wait()
        report(Progress.PULLED)
        if self.host.start_errors:
            raise self.host.start_errors.popleft()
        worker = self.host.workers.get(order.worker_id)
        if worker is not None and worker.exit is not None:
            raise StartFailedError(WorkerReason.EXITED, "it was started before and has ended")
        if worker is None:
            worker = await self._run(order)
        report(Progress.CREATED)
        report(Progress.STARTED)
        return Started("127.0.0.1", worker.port)

    async def _run(self, order: StartOrder) -> FakeWorker:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                worker.requests += 1
                if worker.status == 0:
                    await worker.ended.wait()
                else:
                    writer.write(
                        f"HTTP/1.1 {worker.status} X\r\ncontent-length: 0\r\n\r\n".encode()
                    )
                    await writer.drain()
            except (OSError, asyncio.IncompleteReadError):
                pass  # the client left
            finally:
                writer.close()

        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        # Does not suspend: a start that is cancelled has a worker or has none.
        server = await asyncio.start_server(answer, sock=listener, start_serving=False)
        worker = FakeWorker(order, server, port, status=self.host.status)
        self.host.workers[order.worker_id] = worker
        self.host.started.append(order.worker_id)
        await server.start_serving()
        program, *arguments = order.command
        if program.startswith("print"):
            worker.write(*arguments)
        if program == "exit":
            worker.end(int(arguments[0]))
        if program == "print-and-exit":
            worker.end(3)
        if self.host.early_exits:
            early = self.host.early_exits.popleft()
            worker.end(
                early.code or 0,
                oom_killed=early.oom_killed,
                port_taken=early.port_taken,
                with_engine=early.with_engine,
            )
        return worker

    @override
    async def wait(self, worker_id: str) -> Exit:
        worker = self.host.workers.get(worker_id)
        if worker is None:
            raise RuntimeFailedError(f"there is no worker {worker_id}")
        await worker.changed.wait()
        if worker.exit is None:
            assert worker.beyond is not None
            raise worker.beyond
        return worker.exit

    @override
    async def stop(self, worker_id: str, grace_s: float) -> Exit | None:
        if self.host.stop_errors:
            raise self.host.stop_errors.popleft()
        await self.host.stop_gate.wait()
        worker = self.host.workers.get(worker_id)
        if worker is None:
            return None
        self.host.grace[worker_id] = grace_s
        if worker.order.command[0] == "stubborn":
            try:
                async with asyncio.timeout(grace_s):
                    await worker.ended.wait()
            except TimeoutError:
                worker.end(SIGKILL_CODE)
        else:
            worker.end(SIGTERM_CODE)
        return worker.exit

    @override
    async def log_tail(self, worker_id: str, lines: int) -> tuple[str, ...]:
        worker = self.host.workers.get(worker_id)
        return tuple(worker.lines)[-lines:] if worker is not None else ()

    @override
    async def listeners(self, worker_id: str) -> tuple[Listener, ...] | None:
        worker = self.host.workers.get(worker_id)
        if worker is None:
            return None
        return (Listener("127.0.0.1", worker.port),) if worker.server.is_serving() else ()

    @override
    async def follow(
        self, worker_id: str, cursor: Cursor, skim: Skim = read_all
    ) -> AsyncGenerator[Output, None]:
        worker = self.host.workers.get(worker_id)
        if worker is None:
            return
        run = f"{worker.port}"
        given = int(cursor[1]) if cursor and cursor[0] == run else 0
        while True:
            worker.written.clear()
            lines = list(worker.lines)[given:]
            output: Output = []
            for line in lines:
                given += 1
                text = line.removeprefix(STDERR)
                stream: OutputName = "stdout" if text == line else "stderr"
                output.append(OutputLine(None, stream, text.encode(), False, (run, given)))
            if output:
                yield output
            elif worker.exit is not None:
                return
            else:
                await worker.written.wait()

    @override
    async def remove(self, worker_id: str) -> None:
        worker = self.host.workers.get(worker_id)
        if worker is not None and worker.exit is None:
            raise RuntimeFailedError(f"worker {worker_id} has not ended")
        self.host.workers.pop(worker_id, None)

    @override
    async def prewarm(
        self, wish: ImageWish, on_bytes: Callable[[PulledBytes], None] | None = None
    ) -> RunningImage:
        self.host.prewarmed.append(wish.image)
        if on_bytes is not None:
            on_bytes(PulledBytes(5, 10))
        await self.host.gate.wait()
        if self.host.start_errors:
            raise self.host.start_errors.popleft()
        if on_bytes is not None:
            on_bytes(PulledBytes(10, 10))
        return RunningImage("sha256:1")

    @override
    def keep_images(self, images: frozenset[str]) -> None:
        self.host.kept_images = images

    @override
    async def images(self) -> tuple[str, ...]:
        return ("fake:1",) if self._kind == "docker" else ()

    @override
    async def tend(self) -> tuple[ImageRemoved, ...]:
        removed, self.host.images_removed = tuple(self.host.images_removed), []
        return removed

    @override
    async def close(self) -> None:
        return
