"""What is told of runs: figures, a table, JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from penstock_cli.simulation.engine import Figures, Run
from penstock_common.specs import EndpointSpec


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in numbers."""

    scaler: str
    trace: str
    requests: int
    #: seconds
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    #: share of requests that waited longer than `scaling.value` seconds (a `queue_delay` endpoint's)
    late_ratio: float
    #: refused, or gone unanswered
    lost: int
    starts: int
    workers_mean: float
    workers_most: int
    gpu_seconds: float
    cost: float


def summarize(run: Run, spec: EndpointSpec, figures: Figures) -> Summary:
    """The numbers of a run; a worker without GPUs is paid for like one with one."""
    waits = sorted(run.waits_s)
    gpu_seconds = run.worker_seconds * max(1, spec.gpu.count)
    wanted_s = spec.scaling.value if spec.scaling.type == "queue_delay" else 4.0
    return Summary(
        scaler=run.name,
        trace=run.trace.name,
        requests=len(run.trace),
        wait_p50_s=percentile(waits, 0.50),
        wait_p95_s=percentile(waits, 0.95),
        wait_p99_s=percentile(waits, 0.99),
        late_ratio=sum(w > wanted_s for w in waits) / len(waits) if waits else 0.0,
        lost=run.refused + run.timed_out,
        starts=run.starts,
        workers_mean=run.worker_seconds / run.ended_at if run.ended_at else 0.0,
        workers_most=max(n for _, n in run.workers),
        gpu_seconds=gpu_seconds,
        cost=gpu_seconds / 3600 * figures.gpu_price_per_hour,
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 of nothing."""
    if not ascending:
        return 0.0
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


HEADER = (
    *("SCALER", "TRACE", "P50", "P95", "P99", "LATE", "LOST"),
    *("STARTS", "MEAN", "MOST", "GPU-S", "COST"),
)


def row(summary: Summary) -> tuple[str, ...]:
    """The summary as cells under `HEADER`."""
    return (
        summary.scaler,
        summary.trace,
        f"{summary.wait_p50_s:.2f} s",
        f"{summary.wait_p95_s:.2f} s",
        f"{summary.wait_p99_s:.2f} s",
        f"{summary.late_ratio:.1%}",
        str(summary.lost),
        str(summary.starts),
        f"{summary.workers_mean:.1f}",
        str(summary.workers_most),
        f"{summary.gpu_seconds:.0f}",
        f"{summary.cost:.2f}",
    )


def document_of(summaries: Sequence[Summary]) -> dict[str, object]:
    """All figures, for programs."""
    return {"runs": [asdict(summary) for summary in summaries]}
