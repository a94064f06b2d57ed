"""Waits until what was deployed serves, and says how it goes."""

import asyncio
from typing import Final

from penstock_cli.deployment.progress import Ending, Outcome, Progress
from penstock_cli.deployment.screens import Screen
from penstock_cli.exits import CliError, ExitCode
from penstock_cli.output.printing import plain
from penstock_client.client import PenstockClient
from penstock_client.documents import (
    EndpointDocument,
    LogLineDocument,
    RevisionDocument,
    WorkerDocument,
)
from penstock_client.errors import ApiError, UnreachableError
from penstock_common.clock import Clock, SystemClock
from penstock_common.states import EndpointReason, EndpointState

#: Between two looks.
LOOK_S: Final = 0.25
#: Last lines of a worker that failed.
_TAIL: Final = 20
_TAIL_TIMEOUT_S: Final = 5.0


async def wait_until_serving(
    client: PenstockClient,
    deployed: EndpointDocument,
    screen: Screen,
    *,
    timeout_s: float,
    clock: Clock | None = None,
) -> tuple[EndpointDocument, str]:
    """The endpoint once it serves as it was deployed, and one sentence that says so.

    Goes on while the api is away for a moment.

    Args:
        client: asks the api.
        deployed: the answer to the deployment.
        screen: shows how it goes.
        timeout_s: longest wait.
        clock: of this process.

    Raises:
        CliError: it cannot serve, somebody changed it meanwhile, or it was not there in time; the
            message says why, with the last lines of its worker. The api refused.
    """
    clock = clock or SystemClock()
    progress = Progress(deployed.app_name, deployed.revision, clock.monotonic())
    try:
        with screen:
            async with asyncio.timeout(timeout_s):
                outcome = await _follow(client, deployed.id, progress, screen, clock)
    except TimeoutError:
        raise CliError(*_late(progress, timeout_s), code=ExitCode.TIMEOUT) from None
    endpoint = progress.endpoint
    if outcome.ending is Ending.SERVES and endpoint is not None:
        return endpoint, f"{endpoint.app_name} {outcome.told}"
    tail = await _last_lines(client, deployed.id, progress)
    raise CliError(*_failed(progress, outcome, tail), code=ExitCode.NOT_SERVING)


async def _follow(
    client: PenstockClient, endpoint_id: str, progress: Progress, screen: Screen, clock: Clock
) -> Outcome:
    while True:
        try:
            endpoint, workers, successor = await _look(client, endpoint_id, progress.revision)
        except (ApiError, UnreachableError) as error:
            if isinstance(error, ApiError) and error.status < 500:
                raise
            news = progress.note_away(str(error))
        else:
            now = clock.monotonic()
            news = progress.note(endpoint, workers, now, successor=successor)
        screen.show(progress, news, clock.monotonic())
        if progress.outcome is not None:
            return progress.outcome
        await asyncio.sleep(LOOK_S)


async def _look(
    client: PenstockClient, endpoint_id: str, revision: int
) -> tuple[EndpointDocument | None, tuple[WorkerDocument, ...], RevisionDocument | None]:
    """(the endpoint, its workers, the revision that took the place of this one)."""
    try:
        # The endpoint first: its workers are never shown as they were before it serves.
        endpoint = await client.endpoints.show(endpoint_id)
        workers = (await client.workers.list(endpoint_id).whole()).workers
        if endpoint.revision <= revision:
            return endpoint, workers, None
        known = (await client.endpoints.revisions(endpoint_id)).revisions
    except ApiError as error:
        if error.status != 404:
            raise
        return None, (), None
    return endpoint, workers, next((r for r in known if r.revision == revision + 1), known[0])


async def _last_lines(
    client: PenstockClient, endpoint_id: str, progress: Progress
) -> tuple[str, ...]:
    """What the worker that failed wrote last; nothing where that is not known any more."""
    failure = progress.failure
    if failure is not None and failure.log_tail:
        return failure.log_tail
    worker_id = (failure.worker_id if failure else None) or progress.last_started
    if worker_id is None:
        return ()
    try:
        async with asyncio.timeout(_TAIL_TIMEOUT_S):
            lines = client.workers.logs(endpoint_id, worker_id, tail=_TAIL)
            return tuple([line.text async for line in lines if isinstance(line, LogLineDocument)])
    except (ApiError, UnreachableError, TimeoutError):
        return ()  # they are a help, and the failure is told without them


def _failed(progress: Progress, outcome: Outcome, tail: tuple[str, ...]) -> list[str]:
    if outcome.ending is Ending.SUPERSEDED:
        return [outcome.told]
    lines = [f"'{progress.app_name}' does not serve as deployed: {outcome.told}"]
    failure, endpoint = progress.failure, progress.endpoint
    if failure is not None and failure.message not in outcome.told:
        lines.append(f"  its worker: {failure.message}")
    if tail:
        who = f"worker {failure.worker_id}" if failure and failure.worker_id else "its worker"
        code = failure.exit_code if failure else None
        ended = f" ended with exit code {code}," if code is not None else ""
        lines += [f"  {who}{ended} wrote last:", *(f"  | {plain(line)}" for line in tail)]
    if endpoint is not None:
        lines.append(f"  {_now_serving(endpoint, progress.revision)}")
    reason = failure.reason if failure else None
    lines.append(f"  `penstock endpoint logs {progress.app_name}` shows all that its workers wrote")
    return [*lines, f"  docs/failures.md says more{f' of {reason}' if reason else ''}"]


def _now_serving(endpoint: EndpointDocument, revision: int) -> str:
    if endpoint.state is EndpointState.FAILED:
        at = f" at {endpoint.retry_at:%H:%M:%S} UTC" if endpoint.retry_at is not None else ""
        return f"no worker of it runs; the next start is tried{at}"
    running = endpoint.workers_running
    workers = f"{running} worker{'s' if running != 1 else ''}"
    if endpoint.revision > revision:
        return f"revision {endpoint.revision} runs again what ran before, with {workers}"
    return f"{workers} of it run"


def _late(progress: Progress, timeout_s: float) -> list[str]:
    endpoint = progress.endpoint
    state = f"is {endpoint.state}" if endpoint is not None else "was not seen"
    sentences = progress.sentences()
    why = f" ({endpoint.message})" if endpoint is not None and endpoint.message else ""
    if endpoint is not None and endpoint.reason is EndpointReason.STARTING and sentences:
        why = ""  # of one of these workers
    away = f"; {progress.away}" if progress.away else ""
    lines = [f"after {timeout_s:g} s '{progress.app_name}' {state}{why}{away}"]
    lines += [f"  {sentence}" for sentence in sentences]
    return [*lines, f"  it goes on; `penstock endpoint show {progress.app_name}` says how it is"]
