"""`penstock simulate`: what an endpoint would do with a trace, in virtual time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from penstock_cli.exits import CliError
from penstock_cli.input.documents import read_document
from penstock_cli.options import FileOption, JsonOption, YamlOption
from penstock_cli.output.documents import Form, form_of, print_document
from penstock_cli.output.printing import print_line, print_rows
from penstock_cli.refusals import as_cli_error
from penstock_cli.simulation.engine import Figures, Run
from penstock_cli.simulation.engine import simulate as run_simulation
from penstock_cli.simulation.peers import SCALERS
from penstock_cli.simulation.plot import charts, draw
from penstock_cli.simulation.report import HEADER, document_of, row, summarize
from penstock_cli.simulation.traces import KINDS, Kind, Trace, TraceError, generate, read_csv
from penstock_common.errors import PenstockError
from penstock_common.specs import EndpointSpec, parse_endpoint

#: What a document may leave out here, since nothing is run.
_NAMELESS: Final[dict[str, Any]] = {
    "name": "simulated",
    "app_name": "simulated",
    "image": {"image": "simulated"},
}

TraceFile = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="CSV",
        help="Requests, a line each: arrival and service time in seconds.",
        show_default=False,
    ),
]
Generate = Annotated[
    str | None,
    typer.Option(
        "--generate", metavar="KIND", help=f"Instead: {', '.join(KINDS)}.", show_default=False
    ),
]
Duration = Annotated[
    float, typer.Option(min=1, metavar="SECONDS", help="Length of a generated trace.")
]
PerSecond = Annotated[
    float,
    typer.Option("--rate", min=0.0001, metavar="N", help="Its requests a second, on average."),
]
Service = Annotated[
    float,
    typer.Option("--service-time", min=0, metavar="SECONDS", help="Their mean time at a worker."),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Same seed, same trace.")]
ColdStart = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="A worker's time from order to readiness.")
]
Price = Annotated[
    float, typer.Option("--gpu-price", min=0, metavar="PRICE", help="Of a GPU for an hour.")
]
Compare = Annotated[
    bool,
    typer.Option("--compare", help="Beside Knative's, RunPod's, Ray Serve's and KEDA's formulas."),
]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="SVG", help="Draw arrivals, workers and waits.", show_default=False),
]


def simulate(  # one parameter per flag is how typer reads them
    file: FileOption = None,
    trace_file: TraceFile = None,
    kind: Generate = None,
    duration: Duration = 3600.0,
    per_s: PerSecond = 2.0,
    service_time: Service = 1.0,
    seed: Seed = 1,
    cold_start: ColdStart = 20.0,
    gpu_price: Price = 2.0,
    compare: Compare = False,
    plot: Plot = None,
    as_json: JsonOption = False,
    as_yaml: YamlOption = False,
) -> None:
    """Replay requests against an endpoint document, in virtual time, with the real autoscaler.

    Without -f the endpoint has every default. Each wait, the workers, GPU-seconds and cost are
    those of an installation whose GPUs are free and whose workers start as --cold-start says.
    """
    if (trace_file is None) == (kind is None):
        raise typer.BadParameter("say which requests: --trace FILE, or --generate KIND")
    spec = _spec(file)
    if trace_file is not None:
        trace = _read(trace_file)
    else:
        trace = generate(
            _kind(kind), duration_s=duration, per_s=per_s, service_s=service_time, seed=seed
        )
    figures = Figures(cold_start_s=cold_start, gpu_price_per_hour=gpu_price)
    scalers = list(SCALERS) if compare else ["penstock"]
    runs = [run_simulation(trace, spec, SCALERS[name](), figures) for name in scalers]
    summaries = [summarize(run, spec, figures) for run in runs]
    if plot is not None:
        _draw(plot, runs)
    form = form_of(as_json=as_json, as_yaml=as_yaml)
    if form is not Form.TEXT:
        print_document(document_of(summaries), form)
        return
    print_line(
        f"{len(trace)} requests in {trace.duration_s:.0f} s ({trace.name}), "
        f"cold start {cold_start:g} s, {spec.workers.max_concurrency} slots, "
        f"{spec.scaling.type} {spec.scaling.value:g}"
    )
    print_rows(HEADER, [row(summary) for summary in summaries])


def _spec(file: str | None) -> EndpointSpec:
    document = {**_NAMELESS, **(read_document(file) if file else {})}
    try:
        return parse_endpoint(document)
    except PenstockError as error:
        raise as_cli_error(error) from None


def _kind(text: str | None) -> Kind:
    for kind in KINDS:
        if text == kind:
            return kind
    raise typer.BadParameter(f"'{text}' is none of {', '.join(KINDS)}", param_hint="--generate")


def _read(path: Path) -> Trace:
    try:
        with path.open(newline="") as lines:
            return read_csv(lines, path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}") from None
    except TraceError as error:
        raise CliError(str(error)) from None


def _draw(path: Path, runs: Sequence[Run]) -> None:
    try:
        path.write_text(draw(charts(runs), max(run.ended_at for run in runs)))
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error}") from None
