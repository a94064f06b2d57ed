"""Whether a service is well: told by a file, and looked up from outside.

Where `PENSTOCK_HEALTH_FILE` names a file, `lifecycle.run` writes there every second what the
service says of itself; an event loop that hangs writes nothing. `python -m penstock_common.health`
is the other end, the HEALTHCHECK of the images: it reads the file, asks the URL in it, and exits
with 0, or with 1 and one line that says what is wrong. With a URL as its argument it asks only that.
"""

import asyncio
import json
import logging
import os
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from penstock_common.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

HEALTH_VARIABLE: Final = "PENSTOCK_HEALTH_FILE"
PERIOD_S: Final = 1.0
#: A report older than this is one of a service that hangs.
STALE_S: Final = 10.0
_ASK_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What a service says of itself."""

    #: what is wrong; None = nothing
    problem: str | None
    #: answers 2xx while the service serves; None = it serves no HTTP
    url: str | None = None


def read_problem(file: Path, now: float) -> str | None:
    """What is wrong according to a health file; None = the service is well.

    Args:
        file: as `keep_health_file` writes it.
        now: monotonic seconds of the same machine.
    """
    try:
        document = json.loads(file.read_text())
        age_s = now - document.pop("at")
        report = HealthReport(**document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{file} says nothing of a service: {error}"
    if not 0 <= age_s <= STALE_S:
        return f"the service has said nothing for {age_s:.0f} s"
    return report.problem or (ask_problem(report.url) if report.url else None)


def ask_problem(url: str) -> str | None:
    """What is wrong according to a GET of this http URL; None = it answers 2xx."""
    try:
        # A proxy of the environment has no business here.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=_ASK_S):
            return None
    except (OSError, ValueError) as error:
        return f"{url}: {error}"


async def keep_health_file(file: Path, report: Callable[[], HealthReport], clock: Clock) -> None:
    """Write the report every second, for ever; a disk that refuses is logged, not fatal."""
    complained = False
    while True:
        document = json.dumps({"at": clock.monotonic(), **asdict(report())})
        try:
            await asyncio.to_thread(_write, file, document)
        except OSError as error:
            if not complained:
                logger.warning(
                    "health file not written",
                    extra={"action": "health_unwritten", "file": str(file), "error": str(error)},
                )
            complained = True
        else:
            complained = False
        await asyncio.sleep(PERIOD_S)


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(text)
    temporary.replace(file)


def main() -> None:
    """Look the service up that the environment, or the one argument, names."""
    match sys.argv[1:], os.environ.get(HEALTH_VARIABLE):
        case [url], _:
            problem = ask_problem(url)
        case [], str(file) if file:
            problem = read_problem(Path(file), SystemClock().monotonic())
        case _:
            problem = f"name a URL, or a file in {HEALTH_VARIABLE}"
    if problem:
        sys.exit(problem)


if __name__ == "__main__":
    main()
