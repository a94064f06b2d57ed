"""What it costs to start the `penstock` command: CPU and time of whole processes.

make bench-cli-start             # python -m benchmarks.cli_start --runs 20
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Final

from typing_extensions import override

from penstock_common.clock import SystemClock

RESULTS: Final = Path(__file__).parents[1] / "results"
PENSTOCK: Final = Path(sys.executable).with_name("penstock")
CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True)
class Start:
    """One command line, and what it is called in the table."""

    what: str
    words: tuple[str, ...]
    #: in place of `words`, what the person has typed when the shell asks for names
    typed: str | None = None


STARTS: Final = (
    Start("`python -c pass`", (sys.executable, "-c", "pass")),
    Start("`penstock --help`", (str(PENSTOCK), "--help")),
    Start("`penstock --version`", (str(PENSTOCK), "--version")),
    Start("`penstock endpoint --help`", (str(PENSTOCK), "endpoint", "--help")),
    Start("`penstock endpoint list --help`", (str(PENSTOCK), "endpoint", "list", "--help")),
    Start("`penstock endpoint list`, of none", (str(PENSTOCK), "endpoint", "list")),
    Start("`penstock end<Tab>`", (str(PENSTOCK),), "penstock end"),
    Start("`penstock endpoint sh<Tab>`", (str(PENSTOCK),), "penstock endpoint sh"),
    Start("`penstock endpoint show <Tab>`, of none", (str(PENSTOCK),), "penstock endpoint show "),
)


@dataclass(frozen=True, slots=True)
class Result:
    """Medians of the runs of one command line."""

    what: str
    n: int
    #: user and system
    cpu_s: float
    wall_s: float


class _NoEndpoints(BaseHTTPRequestHandler):
    """Stands for an api that has no endpoints: only what the command does is to be measured."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer an empty page."""
        body = b'{"endpoints": [], "next_cursor": null}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def api_without_endpoints() -> Iterator[str]:
    """The URL of something that answers as an api with no endpoints does."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _NoEndpoints) as server:
        thread = threading.Thread(target=server.serve_forever, name="api")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def measure(start: Start, runs: int, environment: Mapping[str, str]) -> Result:
    """Run the command one time more than counts: the first may have to read files from the disk.

    Raises:
        RuntimeError: the command failed.
    """
    completing = {} if start.typed is None else _completing(start.typed)
    taken = [_run(start, {**environment, **completing}) for _ in range(runs + 1)][1:]
    cpu_s, wall_s = (median(values) for values in zip(*taken, strict=True))
    return Result(start.what, runs, cpu_s, wall_s)


def _run(start: Start, environment: Mapping[str, str]) -> tuple[float, float]:
    begun = CLOCK.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(
            start.words, stdout=subprocess.DEVNULL, stderr=said, env=environment
        )
        _, status, used = os.wait4(child.pid, 0)
        wall_s = CLOCK.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        if child.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{start.what} ended with {child.returncode}: {said.read()}")
    return used.ru_utime + used.ru_stime, wall_s


def _completing(typed: str) -> dict[str, str]:
    """What bash tells a program that completes its own command line."""
    return {
        "_PENSTOCK_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    with api_without_endpoints() as url, tempfile.TemporaryDirectory() as home:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": home,
            "PENSTOCK_API_URL": url,
            "PENSTOCK_API_KEY": "any",
        }
        results = [measure(start, arguments.runs, environment) for start in STARTS]
    print("| command | CPU | time |")
    print("|---|---|---|")
    for r in results:
        print(f"| {r.what} | {r.cpu_s:.3f} s | {r.wall_s:.3f} s |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "cli_start.json").write_text(json.dumps([asdict(r) for r in results], indent=2))


if __name__ == "__main__":
    main()
