"""`penstock up`: everything on one machine, with one command.

It starts the embedded nats-server and the services as children (it imports none of them), waits
until each is ready, prints one line, starts again what dies, and stops all on SIGINT or SIGTERM.
"""

import asyncio
import contextlib
import functools
import os
import signal
import sys
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from penstock_cli.local import ports
from penstock_cli.local.child_lines import for_person, from_nats
from penstock_cli.local.child_log import ChildLog
from penstock_cli.local.data_dir import DataDir, DataDirBusyError
from penstock_cli.local.nats_server import MissingServerError, server_binary, storage_ailment
from penstock_cli.local.supervisor import MISCONFIGURED, ChildFailedError, ChildSpec, Supervisor
from penstock_cli.local.terminal import Terminal
from penstock_common.clock import SystemClock

#: Longest wait for NATS, and for the services, to be ready.
START_TIMEOUT_S = 60.0
#: Longest wait for the end of workers that a killed agent left.
LEFTOVERS_TIMEOUT_S = 10.0


#: The key of secrets, instead of the data directory's file.
SECRET_KEY_VARIABLE = "PENSTOCK_SECRET_KEY"  # noqa: S105 - its name
#: Not handed on to the parts: what is for this command alone.
_OWN_VARIABLES = frozenset({"PENSTOCK_API_KEY", "NOTIFY_SOCKET", SECRET_KEY_VARIABLE})
_SEALS_OR_OPENS = frozenset({"api", "node-agent"})


class UpError(Exception):
    """`penstock up` cannot start; its text is the one line for the person."""


#: Hosts that tell nobody elsewhere how to get here.
_NOT_REACHED = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"})  # noqa: S104


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `penstock up` was asked for; port 0 = a free one."""

    data: Path
    host: str
    api_port: int
    router_port: int
    nats_port: int
    runtime: Literal["auto", "docker", "process"]
    gpus: str
    router_workers: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts listen."""

    host: str
    api_port: int
    router_port: int
    nats_port: int
    nats_monitor_port: int

    @property
    def _name(self) -> str:
        """The host as a client on this machine writes it in a URL."""
        if self.host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
            return "127.0.0.1"
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def node_nats_url(self) -> str | None:
        """NATS as other hosts reach it; None = they cannot, or it is not known how."""
        if self.host in _NOT_REACHED:
            return None
        return self.urls["nats"]

    @property
    def nats_monitor_url(self) -> str:
        """HTTP monitoring of NATS, for this host alone."""
        return f"http://127.0.0.1:{self.nats_monitor_port}"

    @property
    def urls(self) -> dict[str, str]:
        """Part → URL."""
        return {
            "api": f"http://{self._name}:{self.api_port}",
            "router": f"http://{self._name}:{self.router_port}",
            "nats": f"nats://{self._name}:{self.nats_port}",
        }


def up(
    data: Annotated[Path, typer.Option(help="Data directory.", envvar="PENSTOCK_DATA")] = Path(
        ".penstock"
    ),
    host: Annotated[
        str, typer.Option(help="Address that api, router and NATS listen on.")
    ] = "127.0.0.1",
    api_port: Annotated[int, typer.Option(min=0, max=65535, help="0 = a free one.")] = 8000,
    router_port: Annotated[int, typer.Option(min=0, max=65535, help="0 = a free one.")] = 8080,
    nats_port: Annotated[int, typer.Option(min=0, max=65535, help="0 = a free one.")] = 4222,
    runtime: Annotated[
        Literal["auto", "docker", "process"],
        typer.Option(help="What runs workers here: Docker, or plain processes."),
    ] = "auto",
    gpus: Annotated[
        str, typer.Option(help='"auto" (ask the driver), "none", or a list: "4 x rtx-4090-24gb".')
    ] = "auto",
    router_workers: Annotated[int, typer.Option(min=1, max=64, help="Router processes.")] = 1,
) -> None:
    """Run the whole of Penstock on this machine until Ctrl-C."""
    options = UpOptions(data, host, api_port, router_port, nats_port, runtime, gpus, router_workers)
    try:
        with DataDir(options.data) as folder:
            asyncio.run(_up(options, folder))
    except (UpError, DataDirBusyError, MissingServerError) as error:
        _fail(str(error), MISCONFIGURED)
    except ChildFailedError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"cannot use {options.data}: {error}; choose another --data", MISCONFIGURED)


def _fail(message: str, code: int) -> NoReturn:
    print(f"penstock up: {message}", file=sys.stderr)  # noqa: T201 - what the person reads
    raise typer.Exit(code)


def choose_addresses(options: UpOptions) -> Addresses:
    """The ports to listen on; 0 is replaced by a free one.

    Raises:
        UpError: a port is in use, or the host is no address of this machine.
    """
    if not ports.can_bind(options.host):
        raise UpError(f"--host {options.host} is no address of this machine")
    chosen: dict[str, int] = {}
    for name, port in (
        ("api", options.api_port),
        ("router", options.router_port),
        ("nats", options.nats_port),
    ):
        if port in chosen.values() and port:
            raise UpError(
                f"--{name}-port {port} is given twice; choose another, or 0 for a free one"
            )
        if port and not ports.is_free(options.host, port):
            raise UpError(
                f"port {port} is in use; choose another with --{name}-port, or 0 for a free one"
            )
        taken = {*chosen.values(), options.api_port, options.router_port, options.nats_port}
        chosen[name] = port or ports.free_port(options.host, but=taken)
    return Addresses(
        host=options.host,
        api_port=chosen["api"],
        router_port=chosen["router"],
        nats_port=chosen["nats"],
        nats_monitor_port=ports.free_port("127.0.0.1", but=chosen.values()),
    )


def child_specs(
    options: UpOptions, addresses: Addresses, folder: DataDir
) -> tuple[ChildSpec, list[ChildSpec]]:
    """nats-server, and the services that need it."""
    config = folder.write_nats_config(
        addresses.host, addresses.nats_port, addresses.nats_monitor_port
    )
    nats_host = addresses.urls["nats"].removeprefix("nats://").rsplit(":", 1)[0].strip("[]")

    async def nats_serves() -> bool:
        return await asyncio.to_thread(ports.accepts, nats_host, addresses.nats_port)

    nats = ChildSpec(
        name="nats",
        argv=(server_binary(), "-c", str(config)),
        env=_inherited(),
        stop_order=3,
        stop_grace_s=1.5,
        probe=nats_serves,
        ailment=functools.partial(storage_ailment, addresses.nats_monitor_url, folder.nats_store),
    )
    of_api = {
        "HOST": addresses.host,
        "PORT": str(addresses.api_port),
        "ADMIN_KEY_FILE": str(folder.admin_key_file),
        "ROUTER_URL": addresses.urls["router"],
        # Whoever has the key of this installation can reach these anyhow.
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
    }
    of_api["NODE_NATS_PASSWORD_FILE"] = str(folder.nats_password_files["node-agent"])
    if addresses.node_nats_url is not None:
        of_api["NODE_NATS_URL"] = addresses.node_nats_url
    services = [
        _service(
            "api",
            folder,
            addresses,
            of_api,
            stop_order=1,
            grace_s=2.0,
        ),
        _service("scheduler", folder, addresses, {}, stop_order=1, grace_s=2.0),
        _service(
            "node-agent",
            folder,
            addresses,
            {
                "RUNTIME": options.runtime,
                "GPUS": options.gpus,
                "DATA_DIR": str(folder.path / "node"),
                "NODE_ADDRESS": nats_host,
            },
            stop_order=2,
            grace_s=4.0,
        ),
    ]
    several = options.router_workers > 1
    services += [
        _service(
            "router",
            folder,
            addresses,
            {
                "HOST": addresses.host,
                "PORT": str(addresses.router_port),
                "REUSE_PORT": "true" if several else "false",
                # A name that stays: one that died takes its workers up again at once.
                "ROUTER_ID": f"rt-up-{number + 1}",
                "DRAIN_TIMEOUT_S": "3",
            },
            stop_order=1,
            grace_s=3.5,
            suffix=f"-{number + 1}" if several else "",
        )
        for number in range(options.router_workers)
    ]
    return nats, services


def _service(
    service: str,
    folder: DataDir,
    addresses: Addresses,
    settings: dict[str, str],
    *,
    stop_order: int,
    grace_s: float,
    suffix: str = "",
) -> ChildSpec:
    prefix = f"PENSTOCK_{service.upper().replace('-', '_')}_"
    shared = {
        "NATS_URL": addresses.urls["nats"],
        "NATS_USER": service,
        "NATS_PASSWORD_FILE": str(folder.nats_password_files[service]),
        "NATS_MONITOR_URL": addresses.nats_monitor_url,
    }
    if service in _SEALS_OR_OPENS:
        shared |= _secret_key(folder)
    return ChildSpec(
        name=service + suffix,
        argv=(sys.executable, "-m", f"penstock_{service.replace('-', '_')}"),
        # What the person set by hand (PENSTOCK_ROUTER_LOG_LEVEL=debug) comes last and wins.
        env={prefix + k: v for k, v in (shared | settings).items()} | _inherited(),
        stop_order=stop_order,
        stop_grace_s=grace_s,
    )


def _secret_key(folder: DataDir) -> dict[str, str]:
    """The settings that name the key of secrets: of the environment, else of the data directory."""
    given = os.environ.get(SECRET_KEY_VARIABLE, "").strip()
    if not given:
        return {"SECRET_KEY_FILE": str(folder.secret_key_file)}
    if folder.holds_other_secret_key(given):
        raise UpError(
            f"{SECRET_KEY_VARIABLE} and {folder.path / 'secret.key'} are different keys; unset the "
            "one, or move the other away: what it sealed cannot be opened without it"
        )
    return {"SECRET_KEY": given}


def _inherited() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k not in _OWN_VARIABLES}


async def _up(options: UpOptions, folder: DataDir) -> None:
    addresses, clock = choose_addresses(options), SystemClock()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    nats, services = child_specs(options, addresses, folder)
    announced = False

    terminal = Terminal(sys.stderr.fileno())
    show = functools.partial(_show, terminal)

    def on_change() -> None:
        if not announced:
            return
        try:
            folder.write_ready(addresses.urls, supervisor.pids)
        except OSError as error:  # a full disk; what runs goes on
            show("up", f"ready.json is not up to date: {error}")

    def open_log(name: str) -> ChildLog:
        return ChildLog(folder.log_path(name), clock, functools.partial(show, "up"))

    with tempfile.TemporaryDirectory(prefix="penstock-") as notify_folder:
        supervisor = Supervisor(
            clock=clock,
            open_log=open_log,
            echo=show,
            on_change=on_change,
            notify_folder=Path(notify_folder),
        )
        try:
            await _until(stopping, supervisor.start([nats], wait_s=START_TIMEOUT_S))
            if not stopping.is_set():
                await _until(stopping, supervisor.start(services, wait_s=START_TIMEOUT_S))
            if not stopping.is_set():
                announced = True
                on_change()
                line = " ".join(f"{name}={url}" for name, url in addresses.urls.items())
                with contextlib.suppress(OSError):  # nobody may read it; what runs goes on
                    os.write(sys.stdout.fileno(), f"ready {line} data={folder.path}\n".encode())
                await _until(stopping, _raise_failure(supervisor))
        finally:
            await supervisor.stop()
            if not await _end_leftovers(folder, services):
                show("up", f"workers may be left running; their folders are in {folder.workers}")
            terminal.close()


async def _end_leftovers(folder: DataDir, services: list[ChildSpec]) -> bool:
    """End process workers that nobody looks after: their agent was killed just before the end.

    False = some may be left.
    """
    if not folder.workers.is_dir() or not any(folder.workers.iterdir()):
        return True
    agent = next(spec for spec in services if spec.name == "node-agent")
    process = await asyncio.create_subprocess_exec(
        *agent.argv, "stop-workers", env=agent.env, start_new_session=True
    )
    try:
        async with asyncio.timeout(LEFTOVERS_TIMEOUT_S):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        code = await process.wait()
    return code == 0


async def _raise_failure(supervisor: Supervisor) -> None:
    raise await supervisor.failed()


async def _until(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, or leave it as soon as `stopping` is set."""
    task = asyncio.create_task(work)
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        for future in (task, stop):
            future.cancel()
            with contextlib.suppress(asyncio.CancelledError, ChildFailedError):
                await future


def _show(terminal: Terminal, name: str, line: str) -> None:
    """Show a line of a child, or of `penstock up` itself ("up"), as a person wants to read it."""
    if name == "nats":
        line = from_nats(line) or ""
        if not line:
            return
    terminal.show(for_person(name, line))
