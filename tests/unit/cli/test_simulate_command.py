"""`penstock simulate` as a person runs it; it talks to nobody."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from penstock_cli.app import app
from penstock_cli.exits import CliError

RUNNER = CliRunner()


def simulate(*arguments: str) -> tuple[int, str]:
    result = RUNNER.invoke(app, ["simulate", *arguments])
    if isinstance(result.exception, CliError):
        return result.exception.code, str(result.exception)
    return result.exit_code, result.output


def test_a_trace_and_a_document(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("0,1\n0,1\n")
    (tmp_path / "endpoint.json").write_text('{"workers": {"max": 1}, "gpu": {"count": 2}}')
    code, out = simulate(
        *("-f", str(tmp_path / "endpoint.json"), "--trace", str(tmp_path / "trace.csv")),
        *("--cold-start", "3", "--json", "--plot", str(tmp_path / "plot.svg")),
    )
    assert code == 0
    (told,) = json.loads(out)["runs"]
    assert (told["wait_p50_s"], told["wait_p99_s"], told["scaler"]) == (4, 4, "penstock")
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")


def test_beside_the_others() -> None:
    code, out = simulate("--generate", "poisson", "--duration", "60", "--compare")
    assert code == 0
    names = [line.split("  ")[0] for line in out.splitlines()[2:]]
    assert names == [
        *("penstock", "Knative KPA", "RunPod queue delay", "RunPod request count"),
        *("Ray Serve", "KEDA HTTP"),
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "--trace FILE, or --generate KIND"),
        (("--generate", "poisson", "--trace", "a.csv"), "--trace FILE, or --generate KIND"),
        (("--generate", "sometimes"), "diurnal"),
        (("--trace", "nowhere.csv"), "nowhere.csv cannot be read"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], text: str) -> None:
    code, out = simulate(*arguments)
    assert code == 2
    assert text in " ".join(out.replace("│", " ").split())


def test_a_wrong_document_is_refused_by_field(tmp_path: Path) -> None:
    (tmp_path / "endpoint.json").write_text('{"scaling": {"buffer": "x"}}')
    code, out = simulate("-f", str(tmp_path / "endpoint.json"), "--generate", "poisson")
    assert code == 1
    assert "/scaling/buffer" in out
