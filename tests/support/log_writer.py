"""Lines in the stream, as a node agent publishes them, for tests of those who read them."""

from dataclasses import dataclass, field

from penstock_common import subjects
from penstock_common.log_stream import LogStream
from penstock_common.messages import LogBatch, LogGap, LogLine, WorkerAssignment, WorkerStatus
from penstock_common.states import WorkerState
from tests.support.api_server import CLOCK, ApiServer

NODE = "node-a"


@dataclass
class Writer:
    """Publishes a worker's lines as its node agent would."""

    api: ApiServer
    endpoint_id: str
    worker_id: str = "wk-1"
    next_n: int = 1
    sequence: int = 0
    sequences: list[int] = field(default_factory=list)

    async def write(self, *texts: str, ended: bool = False) -> int:
        lines = [
            LogLine(n=self.next_n + n, at=CLOCK.utc(), stream="stdout", text=text)
            for n, text in enumerate(texts)
        ]
        return await self.batch(*lines, ended=ended)

    async def batch(self, *entries: LogLine | LogGap, ended: bool = False) -> int:
        if entries:
            last = entries[-1]
            self.next_n = (last.last if isinstance(last, LogGap) else last.n) + 1
        batch = LogBatch(
            worker_id=self.worker_id,
            endpoint_id=self.endpoint_id,
            node_id=NODE,
            entries=entries,
            next_n=self.next_n,
            previous=self.sequence,
            ended=ended,
        )
        self.sequence = await LogStream(self.api.bus).append(batch)
        self.sequences.append(self.sequence)
        return self.sequence

    @property
    def key(self) -> str:
        return subjects.worker_key(NODE, self.worker_id)

    async def assign(self) -> None:
        now = CLOCK.utc()
        assignment = WorkerAssignment(
            worker_id=self.worker_id,
            node_id=NODE,
            endpoint_id=self.endpoint_id,
            spec=(await self.api.record(self.endpoint_id)).spec,
            revision=1,
            fencing_token=1,
            decided_at=now,
            assigned_at=now,
        )
        await self.api.put(subjects.WORKERS, self.key, assignment)

    async def say(self, state: WorkerState) -> None:
        status = WorkerStatus(
            worker_id=self.worker_id,
            node_id=NODE,
            endpoint_id=self.endpoint_id,
            revision=1,
            state=state,
            updated_at=CLOCK.utc(),
        )
        await self.api.put(subjects.WORKER_STATUS, self.key, status)


async def writer_of(api: ApiServer, worker_id: str = "wk-1", app: str = "echo") -> Writer:
    shown = await api.ask("GET", f"/v1/endpoints/{app}")
    made = shown.document if shown.status == 200 else await api.create(app)
    return Writer(api, made["id"], worker_id)
