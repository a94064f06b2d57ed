"""How a deployment goes: looks at the endpoint and its workers make a story [pure].

Theory of operation. The shell looks several times a second and hands each look to `Progress.note`,
with the instant on its own clock. What a look alone does not tell is kept here: how fast an image
comes, for how long a worker has been at it (its node's clock may differ from ours, so only phases'
offsets are taken from it and the rest is counted here), and how the last worker failed, since the
record of a failed worker goes away. `news` are the sentences for a pipe, one for each thing that
has changed; `outcome` says how it ended, None while it goes on.

A look may miss what passed between two of them. So nothing is concluded from a state that was not
seen: the end is told by the endpoint alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from penstock_cli.output.figures import duration, part_of
from penstock_client.documents import EndpointDocument, RevisionDocument, WorkerDocument
from penstock_common.states import EndpointReason, EndpointState, Phase, WorkerReason, WorkerState

#: Images' rates are means over so many seconds.
RATE_WINDOW_S: Final = 5.0
#: In a pipe a pull is told of whenever another part of so many has come.
_PULL_PARTS: Final = 4


class Ending(StrEnum):
    """How the wait for a deployment ended."""

    SERVES = "serves"
    #: its workers cannot start, or it went back to what ran before
    FAILED = "failed"
    #: somebody changed, paused or deleted it meanwhile
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of the wait, and its reason in one sentence."""

    ending: Ending
    told: str


@dataclass(frozen=True, slots=True)
class Failure:
    """How a worker of the new revision failed."""

    message: str
    #: None = a look at the endpoint told of it, which knows no more
    worker_id: str | None = None
    reason: WorkerReason | None = None
    exit_code: int | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(slots=True)
class _Known:
    """What is remembered of one worker."""

    document: WorkerDocument
    #: seconds after its decision that its last phase was reached, and when we saw that
    reached_s: float
    seen_at: float
    #: (instant, bytes) of the last `RATE_WINDOW_S` seconds
    pulled: list[tuple[float, int]] = field(default_factory=list)
    told: str = ""


class Progress:
    """The story of one deployment."""

    def __init__(self, app_name: str, revision: int, now: float) -> None:
        """`revision` of `app_name` is deployed; `now` in monotonic seconds."""
        self.app_name = app_name
        self.revision = revision
        self.began_at = now
        #: the last look; None = there was none, or the endpoint is gone
        self.endpoint: EndpointDocument | None = None
        self.workers: tuple[WorkerDocument, ...] = ()
        #: how the last worker of this revision failed that was seen to
        self.failure: Failure | None = None
        #: the last worker of this revision that was seen not to run yet
        self.last_started: str | None = None
        self.outcome: Outcome | None = None
        #: what was said of a trouble with the api; None = it answers
        self.away: str | None = None
        self._known: dict[str, _Known] = {}
        self._told = ""
        self._looked = False

    def note(
        self,
        endpoint: EndpointDocument | None,
        workers: Sequence[WorkerDocument],
        now: float,
        *,
        successor: RevisionDocument | None = None,
    ) -> list[str]:
        """Take a look; gives what is new, a sentence each.

        Args:
            endpoint: as it is; None = there is no such endpoint any more.
            workers: all that it has.
            now: when it was looked, monotonic seconds; must not go back.
            successor: the revision that followed on the one that is deployed, if one did.
        """
        news = ["the api answers again"] if self.away is not None else []
        self.away = None
        is_first = not self._looked
        self._looked = True
        self.endpoint, self.workers = endpoint, tuple(workers)
        news += self._note_endpoint(endpoint)
        for worker in workers:
            news += self._note_worker(worker, now)
        present = {worker.id for worker in workers}
        for worker_id in [known for known in self._known if known not in present]:
            gone = self._known.pop(worker_id).document
            if gone.state not in {WorkerState.FAILED, WorkerState.STOPPED}:
                news.append(f"{worker_id}: gone")
        self.outcome = self._outcome(successor)
        if is_first and self.outcome is not None and self.outcome.ending is Ending.SERVES:
            return []  # nothing had to start
        return news

    def note_away(self, why: str) -> list[str]:
        """The api did not answer; gives what is new."""
        new = self.away is None
        self.away = why
        return [f"{why}; still waiting"] if new else []

    def elapsed_s(self, worker: WorkerDocument, now: float) -> float:
        """Seconds since the start of this worker was decided, or that its start took."""
        known = self._known[worker.id]
        if worker.state in {WorkerState.PENDING, WorkerState.PULLING, WorkerState.STARTING}:
            return known.reached_s + now - known.seen_at
        return known.reached_s

    def pull_rate(self, worker: WorkerDocument) -> float | None:
        """Bytes a second of its image, over the last seconds; None = not known."""
        pulled = self._known[worker.id].pulled
        if len(pulled) < 2 or pulled[-1][0] <= pulled[0][0]:
            return None
        return (pulled[-1][1] - pulled[0][1]) / (pulled[-1][0] - pulled[0][0])

    def is_new(self, worker: WorkerDocument) -> bool:
        """Whether it runs the revision that is deployed."""
        return worker.revision >= self.revision

    def sentences(self) -> list[str]:
        """What each worker that does not run yet is at, a sentence each."""
        return [
            f"{worker.id} on {worker.node_id}: {_told_in_a_pipe(worker, self.endpoint)}"
            for worker in self.workers
            if self.is_new(worker) and worker.state is not WorkerState.RUNNING
        ]

    def _note_worker(self, worker: WorkerDocument, now: float) -> Iterator[str]:
        known = self._known.get(worker.id)
        reached_s = max(worker.phases_ms.values(), default=0.0) / 1000
        if known is None:
            known = self._known[worker.id] = _Known(worker, reached_s, now)
            if worker.state is WorkerState.RUNNING and not self.is_new(worker):
                known.told = _told_in_a_pipe(worker, self.endpoint)  # it ran before: no news
        elif reached_s > known.reached_s:
            known.reached_s, known.seen_at = reached_s, now
        known.document = worker
        if worker.state is WorkerState.PULLING and worker.pull_bytes is not None:
            known.pulled = [
                *(entry for entry in known.pulled if now - entry[0] <= RATE_WINDOW_S),
                (now, worker.pull_bytes),
            ]
        if self.is_new(worker):
            self._note_start(worker)
        told = _told_in_a_pipe(worker, self.endpoint)
        if told != known.told:
            known.told = told
            mark = "" if self.is_new(worker) else f" (revision {worker.revision})"
            yield f"{worker.id}{mark} on {worker.node_id}: {told}"

    def _note_start(self, worker: WorkerDocument) -> None:
        if worker.state is not WorkerState.RUNNING:
            self.last_started = worker.id
        if worker.state is WorkerState.FAILED:
            self.failure = Failure(
                worker.message or "failed",
                worker.id,
                worker.reason,
                worker.exit_code,
                worker.log_tail,
            )

    def _note_endpoint(self, endpoint: EndpointDocument | None) -> Iterator[str]:
        if endpoint is not None and endpoint.revision == self.revision:
            self._note_crash(endpoint)
        if endpoint is None or endpoint.state is EndpointState.SERVING:
            return  # that is its end, and told as such
        told = f"{endpoint.state}"
        if endpoint.reason is not EndpointReason.STARTING and endpoint.message:
            told += f": {endpoint.message}"
        if told != self._told:
            self._told = told
            yield f"{self.app_name}: {told}"

    def _note_crash(self, endpoint: EndpointDocument) -> None:
        """Keep what the endpoint says of a worker that failed, unless the worker itself said it."""
        if endpoint.reason is not EndpointReason.CRASH_BACKOFF or not endpoint.message:
            return
        if self.failure is None or self.failure.message != endpoint.message:
            self.failure = Failure(
                endpoint.message, exit_code=endpoint.exit_code, log_tail=endpoint.log_tail
            )

    def _outcome(self, successor: RevisionDocument | None) -> Outcome | None:
        endpoint = self.endpoint
        if endpoint is None:
            return Outcome(Ending.SUPERSEDED, f"'{self.app_name}' was deleted")
        if successor is not None:
            return self._succeeded(successor)
        why = endpoint.message or ""
        match endpoint.state:
            case EndpointState.SERVING if self._is_there(endpoint):
                return Outcome(Ending.SERVES, _serves(endpoint))
            case EndpointState.FAILED:
                return Outcome(Ending.FAILED, why or "its workers cannot start")
            case EndpointState.PAUSED:
                told = f"it is paused; `penstock endpoint resume {self.app_name}` lets it run"
                return Outcome(Ending.SUPERSEDED, told)
            case EndpointState.DELETING:
                return Outcome(Ending.SUPERSEDED, f"'{self.app_name}' is being deleted")
            case _:
                return None

    def _is_there(self, endpoint: EndpointDocument) -> bool:
        # One whose `min` was raised serves all the while, and is waited for all the same.
        running, least = endpoint.workers_running, endpoint.workers.min
        return endpoint.revision == self.revision and running >= least

    def _succeeded(self, successor: RevisionDocument) -> Outcome:
        if successor.cause == "rolled_back" and successor.why is not None:
            return Outcome(Ending.FAILED, successor.why)
        done = "went back to another" if successor.cause == "rolled_back" else "changed it"
        told = f"somebody {done} meanwhile: revision {successor.revision} took its place"
        return Outcome(Ending.SUPERSEDED, told)


def stage_of(worker: WorkerDocument, endpoint: EndpointDocument | None) -> str:
    """What a worker is at, in words without figures."""
    match worker.state:
        case WorkerState.PENDING:
            return "placed, its node has not begun"
        case WorkerState.PULLING:
            return "pulls its image"
        case WorkerState.STARTING:
            return _starting(worker, endpoint)
        case WorkerState.RUNNING:
            return "runs"
        case WorkerState.DRAINING:
            return "finishes its requests"
        case WorkerState.STOPPED:
            return "stopped"
        case WorkerState.FAILED:
            return f"failed ({worker.reason})" if worker.reason else "failed"


def _starting(worker: WorkerDocument, endpoint: EndpointDocument | None) -> str:
    if Phase.STARTED not in worker.phases_ms:
        return "is being made"
    problem = worker.health_problem
    if problem is not None:
        return f"{problem.message}; {problem.fix}" if problem.fix else problem.message
    if Phase.LISTENING not in worker.phases_ms:
        return "started, does not listen yet"
    path = endpoint.health.path if endpoint is not None else None
    return f"listens, {path} does not answer 200 yet" if path else "listens"


def _told_in_a_pipe(worker: WorkerDocument, endpoint: EndpointDocument | None) -> str:
    told = stage_of(worker, endpoint)
    done, total = worker.pull_bytes, worker.pull_total_bytes
    if worker.state is WorkerState.PULLING and done is not None and total:
        # Rounded down to a part, so that it is told once for each.
        parts = min(done * _PULL_PARTS // total, _PULL_PARTS)
        return f"{told}, {part_of(total * parts / _PULL_PARTS, total)}"
    if worker.state is WorkerState.RUNNING:
        healthy_ms = worker.phases_ms.get(Phase.HEALTHY)
        return told if healthy_ms is None else f"{told}, ready after {duration(healthy_ms / 1000)}"
    if worker.state is WorkerState.FAILED and worker.message:
        return f"{told}: {worker.message}"
    return told


def _serves(endpoint: EndpointDocument) -> str:
    running = endpoint.workers_running
    if running == 0:
        return f"serves at 0 workers, a request starts one: {endpoint.url}"
    return f"serves with {running} worker{'s' if running > 1 else ''}: {endpoint.url}"
