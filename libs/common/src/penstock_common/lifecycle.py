"""Life of a service process: start, say ready, run until a signal, drain, stop.

A service's main is `async def serve(stopping: asyncio.Event) -> None`: it starts its parts, calls
`notify_ready`, waits for `stopping`, drains, and returns. The first SIGINT or SIGTERM sets
`stopping`, and before `notify_ready` cancels `serve` as well (there is nothing to drain yet); later
only a second SIGINT cancels. Whatever it raises ends the process with exit code 1;
`SettingsError`-like mistakes of the operator are a `Misconfigured` and end it with 2.

Readiness is told by systemd's protocol (sd_notify(3): a datagram to the socket in NOTIFY_SOCKET),
so `penstock up` and systemd units are served by the same line. Where a file is wanted as well
(containers), `health.py` says how.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from penstock_common.clock import SystemClock
from penstock_common.errors import (
    BusDisconnectedError,
    BusTimeoutError,
    NoRespondersError,
    PenstockError,
)
from penstock_common.health import HEALTH_VARIABLE, HealthReport, keep_health_file

logger = logging.getLogger(__name__)

#: Set by a supervisor to its own pid: the service ends when that process does.
SUPERVISOR_VARIABLE = "PENSTOCK_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1


class MisconfiguredError(PenstockError):
    """The settings cannot work."""

    error_type = "misconfigured"


@dataclass(slots=True)
class _Phase:
    """How far this process is; one process runs one service."""

    ready: bool = False
    stopping: bool = False
    #: says what is wrong with the service while it runs; None = nothing
    check: Callable[[], str | None] | None = None
    health_url: str | None = None

    def report(self) -> HealthReport:
        if self.stopping:
            return HealthReport("the service stops")
        if not self.ready:
            return HealthReport("the service starts")
        return HealthReport(self.check() if self.check else None, self.health_url)


_phase = _Phase()


def notify_ready(
    *,
    check: Callable[[], str | None] | None = None,
    health_url: str | None = None,
    **fields: str,
) -> None:
    """Tell the supervisor that the service is ready.

    Args:
        check: says from now on what is wrong with the service; None = nothing.
        health_url: of this host; answers 2xx while the service serves.
        fields: travel as `X_<NAME>=value`.
    """
    _phase.ready, _phase.check, _phase.health_url = True, check, health_url
    lines = ["READY=1", *(f"X_{name.upper()}={value}" for name, value in fields.items())]
    _notify("\n".join(lines))
    logger.info("service ready", extra={"action": "service_ready", **fields})


def notify_stopping() -> None:
    """Tell the supervisor that the service drains and will end."""
    _notify("STOPPING=1")


def _notify(text: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # The supervisor may have gone; the service lives on without it.
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        contextlib.suppress(OSError),
    ):
        sock.connect(address)
        sock.sendall(text.encode())


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel send this process SIGTERM when its parent ends (Linux; prctl(2))."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it ended before the call
        os.kill(os.getpid(), signal.SIGTERM)


def run(serve: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Run a service to its end on uvloop; gives the exit code.

    Args:
        serve: starts, serves until its argument is set, drains, returns.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(serve))
    except MisconfiguredError as error:
        logger.error(
            "service misconfigured", extra={"action": "service_failed", "error": str(error)}
        )
        return 2
    except Exception as error:
        lost = None if _phase.ready else _nats_lost(error)
        if lost is None:
            told = {"action": "service_failed", "error": str(error)}
            logger.exception("service failed", extra=told)
        else:  # no bug of ours: whoever keeps this process starts it again
            logger.error(
                "NATS was lost while the service started",
                extra={"action": "service_failed", "error": str(lost)},
            )
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    return 0


def _nats_lost(error: BaseException) -> PenstockError | None:
    """The error of a NATS that went away, if there is no other in this one."""
    if isinstance(error, (BusDisconnectedError, BusTimeoutError, NoRespondersError)):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [_nats_lost(each) for each in error.exceptions]
        return None if None in found else found[0]
    return None


async def _main(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    main_task = asyncio.current_task()
    assert main_task is not None

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set() and number is signal.SIGINT:
            main_task.cancel()
        elif not stopping.is_set():
            logger.info(
                "service stopping", extra={"action": "service_stopping", "signal": number.name}
            )
            notify_stopping()
            _phase.stopping = True
            stopping.set()
            if not _phase.ready:
                main_task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    # From here on a death of the supervisor is a SIGTERM like any other.
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    if supervisor:
        die_with_parent(int(supervisor))
    async with _health_told():
        try:
            await serve(stopping)
        except asyncio.CancelledError:
            if _phase.ready or not stopping.is_set():
                raise


@contextlib.asynccontextmanager
async def _health_told() -> AsyncIterator[None]:
    """Keep the health file up to date meanwhile, where the environment names one."""
    file = os.environ.get(HEALTH_VARIABLE)
    if not file:
        yield
        return
    keeping = asyncio.create_task(
        keep_health_file(Path(file), _phase.report, SystemClock()), name="health file"
    )
    try:
        yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
