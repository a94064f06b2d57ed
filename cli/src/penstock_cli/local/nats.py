"""`penstock nats`: the embedded nats-server alone, for whatever starts it again when it ends."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from penstock_cli.exits import CliError
from penstock_cli.local.data_dir import DataDir
from penstock_cli.local.nats_server import MissingServerError, server_binary, storage_ailment
from penstock_cli.local.supervisor import AILMENT_LOOK_S, die_with_parent

#: How long nats-server may take to write out what it holds.
_STOP_GRACE_S: Final = 20.0


def nats(
    data: Annotated[
        Path, typer.Option(envvar="PENSTOCK_DATA", metavar="DIR", help="Of `penstock init`.")
    ],
) -> None:
    """Run the nats-server that `penstock init` configured; ends when it must be started again.

    That is when its disk was full and has room again: nats-server stores nothing more until then.
    Docker's restart policy or systemd's `Restart=always` starts it.
    """
    folder = DataDir(data)
    try:
        monitor_url, binary = folder.nats_monitor_url(), server_binary()
    except (OSError, ValueError) as error:
        raise CliError(f"{error}; `penstock init --data {data}` writes it") from None
    except MissingServerError as error:
        raise CliError(str(error)) from None
    raise typer.Exit(asyncio.run(_serve(folder, monitor_url, binary)))


async def _serve(folder: DataDir, monitor_url: str, binary: str) -> int:
    """Run it until it ends, or is to; gives the exit code."""
    server = await asyncio.create_subprocess_exec(
        binary, "-c", str(folder.nats_config), preexec_fn=die_with_parent
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    beside: tuple[asyncio.Task[Any], ...] = (
        asyncio.create_task(stopping.wait()),
        asyncio.create_task(_until_ailing(folder, monitor_url)),
    )
    ended = asyncio.create_task(server.wait())
    await asyncio.wait((ended, *beside), return_when=asyncio.FIRST_COMPLETED)
    for task in beside:
        task.cancel()
    await _end(server)
    await ended
    if stopping.is_set():
        return 0
    return server.returncode if server.returncode and server.returncode > 0 else 1


async def _until_ailing(folder: DataDir, monitor_url: str) -> None:
    """Wait until the server must be started again, and say why."""
    while (why := await storage_ailment(monitor_url, folder.nats_store)) is None:  # noqa: ASYNC110
        await asyncio.sleep(AILMENT_LOOK_S)
    print(f"penstock nats: {why}", file=sys.stderr, flush=True)  # noqa: T201


async def _end(server: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        server.terminate()
    try:
        async with asyncio.timeout(_STOP_GRACE_S):
            await server.wait()
    except TimeoutError:
        server.kill()
        await server.wait()
