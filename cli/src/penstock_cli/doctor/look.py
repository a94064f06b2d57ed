"""Looks at an installation and at this machine, for `penstock doctor`."""

import asyncio
import json
import os
import shutil
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import ValidationError

from penstock_cli.doctor.findings import (
    Answer,
    Finding,
    judge_api,
    judge_disk,
    judge_driver,
    judge_engine,
    judge_nodes,
    judge_port,
    judge_secret_key,
    judge_server,
)
from penstock_cli.local import ports
from penstock_cli.local.nats_server import MissingServerError, server_binary
from penstock_cli.local.up import SECRET_KEY_VARIABLE
from penstock_cli.target import Target
from penstock_client.documents import NodeList
from penstock_common.clock import Clock

_TIMEOUT_S: Final = 5.0


async def look(target: Target, data: Path, engine: str, clock: Clock) -> list[Finding]:
    """Everything that can be found out from here.

    Args:
        target: the api and a key.
        data: data directory of `penstock up`; need not exist.
        engine: the Docker engine, e.g. `unix:///var/run/docker.sock`.
        clock: this machine's.
    """
    ready, nodes, info, gpus = await asyncio.gather(
        _get(f"{target.url}/readyz", clock),
        _get(f"{target.url}/v1/nodes", clock, key=target.key),
        _engine_info(engine, clock),
        _driver_gpus(),
    )
    findings = judge_api(target.url, ready, nodes)
    if nodes.status == 200:
        try:
            findings += judge_nodes(NodeList.of(nodes.document).nodes)
        except ValidationError as error:
            findings.append(Finding("nodes", "problem", f"the list makes no sense: {error}"))
    findings += await asyncio.to_thread(_look_at_parts, data)
    findings.append(judge_driver(gpus))
    findings += judge_engine(info, has_gpus=bool(gpus))
    findings += await asyncio.to_thread(_look_at_secret_key, data)
    findings += await asyncio.to_thread(_look_at_disks, data, info)
    findings.append(judge_server(_server()))
    return findings


async def _get(
    url: str, clock: Clock, *, key: str | None = None, socket: str | None = None
) -> Answer:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.UnixConnector(socket) if socket else None
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            session.get(url, headers=headers) as answer,
        ):
            body = await answer.read()
            skew_s = None
            if "Date" in answer.headers:
                told = parsedate_to_datetime(answer.headers["Date"])
                # The server cut the second's fraction off: on average half of one.
                skew_s = (told - clock.utc()).total_seconds() + 0.5
            status = answer.status
    except TimeoutError:
        return Answer(error=f"no answer within {_TIMEOUT_S:g} s")
    except aiohttp.ClientConnectorError as error:
        return Answer(error=error.os_error.strerror or str(error.os_error))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answer(error=str(error) or type(error).__name__)
    try:
        return Answer(status, document=json.loads(body), skew_s=skew_s)
    except ValueError:
        return Answer(status, skew_s=skew_s)


async def _engine_info(engine: str, clock: Clock) -> Answer:
    scheme, _, rest = engine.partition("://")
    if scheme == "unix":
        return await _get("http://engine/info", clock, socket=rest)
    if scheme in ("tcp", "http"):
        return await _get(f"http://{rest}/info", clock)
    return Answer(error=f"DOCKER_HOST {engine} is neither unix:// nor tcp://")


async def _driver_gpus() -> list[str] | None:
    """Name and driver of each GPU; None = no driver."""
    if shutil.which("nvidia-smi") is None:
        return None
    process = await asyncio.create_subprocess_exec(
        "nvidia-smi",
        "--query-gpu=name,driver_version",
        "--format=csv,noheader",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S * 2):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return []
    if process.returncode:
        return None
    return [line.strip() for line in output.decode().splitlines() if line.strip()]


def _look_at_parts(data: Path) -> list[Finding]:
    """NATS and the router of a `penstock up` that runs with this data directory."""
    try:
        ready = json.loads((data / "ready.json").read_text())
    except (OSError, ValueError):  # none runs there
        return []
    findings = []
    for name in ("nats", "router"):
        url = str(ready.get(name, "")) if isinstance(ready, dict) else ""
        host, _, port = url.partition("://")[2].rstrip("/").rpartition(":")
        if port.isdigit():
            accepts = ports.accepts(host.strip("[]"), int(port))
            findings.append(judge_port(name, f"{host}:{port}", accepts))
    return findings


def _look_at_secret_key(data: Path) -> list[Finding]:
    path = data / "secret.key"
    try:
        kept, mode = path.read_text().strip(), path.stat().st_mode
    except FileNotFoundError:
        kept, mode = None, 0
    except (OSError, UnicodeDecodeError) as error:
        return [Finding("secret key", "warning", f"{path} cannot be read: {error}")]
    given = os.environ.get(SECRET_KEY_VARIABLE, "").strip()
    found = judge_secret_key(given, str(path), kept, mode)
    return [found] if found else []


def _look_at_disks(data: Path, info: Answer) -> list[Finding]:
    places = {}
    if data.is_dir():
        places["data disk"] = data.absolute()
    root = info.document.get("DockerRootDir") if isinstance(info.document, dict) else None
    if root and Path(root).is_dir():
        places["docker disk"] = Path(root)
    findings = []
    for name, path in places.items():
        usage = shutil.disk_usage(path)
        findings.append(judge_disk(name, str(path), usage.free, usage.total))
    return findings


def _server() -> str | None:
    try:
        return server_binary()
    except MissingServerError:
        return None
