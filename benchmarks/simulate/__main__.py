"""The autoscaler beside its peers' formulas, in virtual time (`penstock simulate --compare`).

Four generated traces, several seeds each; the table has the means over the seeds. One more run times
the simulator itself on a million requests.

    make bench-simulate              # python -m benchmarks.simulate --seeds 3
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from penstock_cli.simulation.engine import Figures, simulate
from penstock_cli.simulation.ours import Penstock
from penstock_cli.simulation.peers import SCALERS
from penstock_cli.simulation.plot import charts, draw
from penstock_cli.simulation.report import Summary, summarize
from penstock_cli.simulation.traces import KINDS, Kind, generate
from penstock_common.clock import SystemClock
from penstock_common.specs import EndpointSpec, parse_endpoint

RESULTS: Final = Path(__file__).parents[1] / "results"
CLOCK: Final = SystemClock()
#: An LLM of middle size: four requests at once, two seconds each, twenty seconds to load.
FIGURES: Final = Figures(cold_start_s=20.0, gpu_price_per_hour=2.0)
DURATION_S: Final = 7200.0
PER_S: Final = 5.0
SERVICE_S: Final = 2.0
#: Waits that differ by less are the same to a person.
SAME_WAIT_S: Final = 0.05
#: GPU-seconds that differ by less are the same to an owner.
SAME_COST_RATIO: Final = 0.01


def endpoint(**scaling: object) -> EndpointSpec:
    """The endpoint of the comparison."""
    return parse_endpoint(
        {
            "name": "llm",
            "app_name": "llm",
            "image": {"image": "llm"},
            "workers": {"max": 100, "max_concurrency": 4, "idle_timeout_s": 60},
            "scaling": {"type": "queue_delay", "value": 1, **scaling},
            "queue": {"max_waiting": 100_000, "max_wait_s": 3600},
        }
    )


@dataclass(frozen=True, slots=True)
class Mean:
    """Means over the seeds."""

    scaler: str
    trace: str
    wait_p50_s: float
    wait_p95_s: float
    wait_p99_s: float
    late_ratio: float
    starts: float
    workers_mean: float
    gpu_seconds: float
    cost: float

    @classmethod
    def of(cls, name: str, runs: Sequence[Summary]) -> "Mean":
        """The mean of runs of one scaler on one kind of trace."""
        values: dict[str, Any] = {
            field: fmean(getattr(run, field) for run in runs)
            for field in cls.__slots__
            if field not in {"scaler", "trace"}
        }
        return cls(scaler=name, trace=runs[0].trace, **values)


def compare(kind: Kind, seeds: int) -> list[Mean]:
    """All scalers on one kind of trace; ours with a buffer as well."""
    traces = [
        generate(kind, duration_s=DURATION_S, per_s=PER_S, service_s=SERVICE_S, seed=seed + 1)
        for seed in range(seeds)
    ]
    rows = []
    for name, make in SCALERS.items():
        runs = [simulate(trace, endpoint(), make(), FIGURES) for trace in traces]
        rows.append(Mean.of(runs[0].name, [summarize(r, endpoint(), FIGURES) for r in runs]))
        if name == "penstock":
            spec = endpoint(buffer=1)
            buffered = [simulate(trace, spec, make(), FIGURES) for trace in traces]
            told = [summarize(run, spec, FIGURES) for run in buffered]
            rows.append(Mean.of("penstock, buffer 1", told))
    runs = [simulate(traces[0], endpoint(), make(), FIGURES) for make in SCALERS.values()]
    svg = draw(charts(runs), max(run.ended_at for run in runs))
    (RESULTS / f"simulate_{kind}.svg").write_text(svg)
    return rows


def verdict(ours: Mean, buffered: Mean, peer: Mean) -> str:
    """Ours against a peer: whether it waits no longer at no more cost, as it is or with a buffer."""
    if _wins(ours, peer):
        return f"yes ({ours.gpu_seconds / peer.gpu_seconds - 1:+.0%})"
    if _wins(buffered, peer):
        return f"with the buffer ({buffered.gpu_seconds / peer.gpu_seconds - 1:+.0%})"
    p95, p99 = ours.wait_p95_s - peer.wait_p95_s, ours.wait_p99_s - peer.wait_p99_s
    cost = ours.gpu_seconds / peer.gpu_seconds - 1
    return f"**no**: p95 {p95:+.2f} s, p99 {p99:+.2f} s ({cost:+.0%})"


def _wins(ours: Mean, peer: Mean) -> bool:
    waits = max(ours.wait_p95_s - peer.wait_p95_s, ours.wait_p99_s - peer.wait_p99_s)
    cost_ratio = ours.gpu_seconds / peer.gpu_seconds
    return waits <= SAME_WAIT_S and cost_ratio <= 1 + SAME_COST_RATIO


def print_tables(tables: Sequence[Sequence[Mean]]) -> None:
    """Both tables as Markdown."""
    print("| trace | scaler | p50 | p95 | p99 | over 1 s | starts | workers | GPU-s | cost |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for rows in tables:
        for row in rows:
            name = f"**{row.scaler}**" if row.scaler == "penstock" else row.scaler
            print(
                f"| {row.trace} | {name} | {row.wait_p50_s:.2f} | {row.wait_p95_s:.2f} | "
                f"{row.wait_p99_s:.2f} | {row.late_ratio:.1%} | {row.starts:.0f} | "
                f"{row.workers_mean:.1f} | {row.gpu_seconds:.0f} | {row.cost:.1f} |"
            )
    print("\n| ours waits no longer at no more GPU-s than | " + " | ".join(KINDS) + " |")
    print("|---" * (len(KINDS) + 1) + "|")
    for number in range(2, len(tables[0])):
        cells = [verdict(rows[0], rows[1], rows[number]) for rows in tables]
        print(f"| {tables[0][number].scaler} | " + " | ".join(cells) + " |")


def time_a_million() -> tuple[int, float]:
    """How many requests, and seconds to simulate them."""
    trace = generate("poisson", duration_s=10_000, per_s=100, service_s=0.5)
    began = CLOCK.monotonic()
    simulate(trace, endpoint(), Penstock(), FIGURES)
    return len(trace), CLOCK.monotonic() - began


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    tables = [compare(kind, arguments.seeds) for kind in KINDS]
    print_tables(tables)
    requests, took_s = time_a_million()
    print(f"\n{requests} requests simulated in {took_s:.1f} s")
    result = {
        "runs": [asdict(row) for rows in tables for row in rows],
        "million": {"requests": requests, "seconds": took_s},
    }
    (RESULTS / "simulate.json").write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
