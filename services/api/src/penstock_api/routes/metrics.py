"""The load of an endpoint, now and in the last hour."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from penstock_api.context import Api
from penstock_api.load_history import BUCKET_S, KEPT, STATES, Step
from penstock_api.problems import RefusedError
from penstock_api.routes.route import Query, Route, answer
from penstock_api.views import load_document
from penstock_client.documents import EndpointMetrics, MetricsPoint
from penstock_common.states import ENDED, WorkerState

_LONGEST_S: Final = KEPT * BUCKET_S
#: So many points unless a step is asked for.
_POINTS: Final = 60
_SECONDS: Final = {"type": "integer", "minimum": BUCKET_S, "maximum": _LONGEST_S}


async def show_metrics(api: Api, request: web.Request) -> web.Response:
    """GET /v1/endpoints/{endpoint}/metrics."""
    endpoint_id = api.store.find(request.match_info["endpoint"]).endpoint_id
    window_s = _seconds(request.query, "window", _LONGEST_S)
    step_s = _seconds(request.query, "step", -(-window_s // _POINTS // BUCKET_S) * BUCKET_S)
    load = api.loads.of_endpoint(endpoint_id, api.clock.monotonic())
    workers = worker_counts(api).get(endpoint_id, Counter())
    steps = api.history.steps(endpoint_id, window_s=window_s, step_s=step_s)
    return answer(
        EndpointMetrics(
            endpoint_id=endpoint_id,
            at=api.clock.utc(),
            load=load_document(load),
            workers={state: workers[state] for state in STATES},
            window_s=window_s,
            step_s=step_s,
            points=tuple(_point(step, step_s) for step in steps),
        )
    )


def worker_counts(api: Api) -> dict[str, Counter[WorkerState]]:
    """Endpoint → how many of its workers are in which state, of those that have not ended."""
    counts: dict[str, Counter[WorkerState]] = {}
    for assignment, status in api.store.held():
        state = status.state if status else WorkerState.PENDING
        if state not in ENDED:
            counts.setdefault(assignment.endpoint_id, Counter())[state] += 1
    return counts


def close_bucket(api: Api) -> None:
    """Let the history close the bucket that is over."""
    now = api.clock.monotonic()
    api.history.close(
        api.clock.utc().timestamp(),
        lambda endpoint_id: api.loads.times(endpoint_id, now),
        worker_counts(api),
    )


def _seconds(query: Mapping[str, str], name: str, default: int) -> int:
    """A whole number of buckets, up to all that are kept."""
    text = query.get(name)
    if text is None:
        return default
    seconds = int(text[:9]) if text.isascii() and text.isdigit() else 0
    if not BUCKET_S <= seconds <= _LONGEST_S or seconds % BUCKET_S:
        told = f"{name} is a multiple of {BUCKET_S} seconds from {BUCKET_S} to {_LONGEST_S}"
        raise RefusedError(400, "bad_query", told)
    return seconds


def _point(step: Step, step_s: int) -> MetricsPoint:
    p50_s, p90_s, p99_s = step.service_s or (None, None, None)
    first_p50_s, first_p90_s, first_p99_s = step.first_byte_s or (None, None, None)
    return MetricsPoint(
        at=datetime.fromtimestamp(step.at, UTC),
        requests=step.requests,
        requests_per_s=round(step.requests / step_s, 3),
        completed=step.completed,
        errors=step.errors,
        refused=step.refused,
        waiting=step.waiting,
        in_flight=step.in_flight,
        oldest_wait_s=round(step.oldest_wait_s, 3),
        workers=dict(zip(STATES, step.workers, strict=True)),
        service_p50_s=_short(p50_s),
        service_p90_s=_short(p90_s),
        service_p99_s=_short(p99_s),
        first_byte_p50_s=_short(first_p50_s),
        first_byte_p90_s=_short(first_p90_s),
        first_byte_p99_s=_short(first_p99_s),
    )


def _short(seconds: float | None) -> float | None:
    """As many digits as the ring's floats and the sketch's accuracy are worth."""
    return None if seconds is None else float(f"{seconds:.4g}")


ROUTES: Final = (
    Route(
        "GET",
        "/v1/endpoints/{endpoint}/metrics",
        show_metrics,
        "read",
        "Show an endpoint's load, now and in the last hour.",
        EndpointMetrics,
        query=(
            Query("window", "seconds to look back", {**_SECONDS, "default": _LONGEST_S}),
            Query("step", "seconds of a point; left out = about 60 points", _SECONDS),
        ),
    ),
)
