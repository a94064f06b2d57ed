"""The ways in which a person or a script drives an installation: each makes and changes endpoints."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from tests.support.installation import ROOT, Installation
from tests.support.nats_calls import Caller, calling

ECHO: Final = f"{sys.executable} {ROOT}/examples/openai_echo/server.py"
GPU: Final = "rtx-4090-24gb"
#: Of a client that waits for one command.
COMMAND_S: Final = 60


class Way(Protocol):
    """How an endpoint with one kind of GPU is made, seen, changed and deleted."""

    async def create(self, app: str) -> str:
        """Make an endpoint that runs the echo server with 0 to 1 workers; gives its app name."""
        ...

    async def serves(self, app: str) -> bool:
        """Whether this way says that the endpoint serves."""
        ...

    async def scale(self, app: str, minimum: int, maximum: int) -> None:
        """Change how many workers it may have, which touches none that runs."""
        ...

    async def update(self, app: str, **env: str) -> None:
        """Give it this environment: a new revision."""
        ...

    async def delete(self, app: str) -> None:
        """Delete it."""
        ...


@runtime_checkable
class PausingWay(Way, Protocol):
    """One that can also keep an endpoint at 0 workers, which Novita's APIs cannot."""

    async def pause(self, app: str) -> None:
        """Keep it at 0 workers."""
        ...

    async def resume(self, app: str) -> None:
        """Let it run again."""
        ...


class NativeWay:
    """The management API under `/v1`."""

    def __init__(self, penstock: Installation) -> None:
        self._api = penstock.api

    async def create(self, app: str) -> str:
        document = {
            "app_name": app,
            "image": {"command": ECHO},
            "gpu": {"products": [GPU], "count": 1},
            "workers": {"min": 0, "max": 1, "idle_timeout_s": 300},
        }
        made: str = (await self._api("POST", "/v1/endpoints", document))["app_name"]
        return made

    async def serves(self, app: str) -> bool:
        return bool((await self._api("GET", f"/v1/endpoints/{app}"))["state"] == "serving")

    async def scale(self, app: str, minimum: int, maximum: int) -> None:
        await self._patch(app, {"workers": {"min": minimum, "max": maximum}})

    async def update(self, app: str, **env: str) -> None:
        await self._patch(app, {"env": env})

    async def _patch(self, app: str, change: object) -> None:
        await self._api("PATCH", f"/v1/endpoints/{app}", change)

    async def pause(self, app: str) -> None:
        await self._api("POST", f"/v1/endpoints/{app}/pause")

    async def resume(self, app: str) -> None:
        await self._api("POST", f"/v1/endpoints/{app}/resume")

    async def delete(self, app: str) -> None:
        await self._api("DELETE", f"/v1/endpoints/{app}")


class NovitaV1Way:
    """Bodies of Novita's documentation of v1, with what is ours where it says "yours"."""

    _BASE: Final = "/gpu-instance/openapi/v1"

    def __init__(self, penstock: Installation) -> None:
        self._api = penstock.api

    async def create(self, app: str) -> str:
        body = {
            "endpoint": {
                "name": app,
                "appName": app,
                "workerConfig": {
                    "minNum": 0,
                    "maxNum": 1,
                    "freeTimeout": 300,
                    "maxConcurrent": 1,
                    "gpuNum": 1,
                    "requestTimeout": 120,
                },
                "ports": [{"port": 8080}],
                "policy": {"type": "queue", "value": 4},
                "image": {"image": "acme/echo", "authId": "", "command": ECHO},
                "products": [{"id": GPU}],
                "rootfsSize": 100,
                "volumeMounts": [],
                "envs": [{"key": "K", "value": "V"}],
                "healthy": {"path": "/health"},
            }
        }
        made = (await self._api("POST", f"{self._BASE}/endpoint/create", body))["id"]
        name: str = (await self._endpoint(made))["appName"]
        return name

    async def serves(self, app: str) -> bool:
        return bool((await self._endpoint(app))["state"]["state"] == "serving")

    async def scale(self, app: str, minimum: int, maximum: int) -> None:
        shown = await self._endpoint(app)
        shown["workerConfig"] |= {"minNum": minimum, "maxNum": maximum}
        await self._api("POST", f"{self._BASE}/endpoint/update", shown)

    async def update(self, app: str, **env: str) -> None:
        shown = await self._endpoint(app)
        shown["envs"] = [{"key": key, "value": value} for key, value in env.items()]
        await self._api("POST", f"{self._BASE}/endpoint/update", shown)

    async def delete(self, app: str) -> None:
        body = {"id": (await self._endpoint(app))["id"]}
        await self._api("POST", f"{self._BASE}/endpoint/delete", body)

    async def _endpoint(self, endpoint: str) -> dict[str, Any]:
        shown: dict[str, Any] = await self._api("GET", f"{self._BASE}/endpoint?id={endpoint}")
        found: dict[str, Any] = shown["endpoint"]
        return found


class NovitaV2Way:
    """Bodies of Novita's documentation of v2; its changes are ours, in its words."""

    _BASE: Final = "/gpus/v2/endpoints"

    def __init__(self, penstock: Installation) -> None:
        self._api = penstock.api

    async def create(self, app: str) -> str:
        body = {
            "type": "sync",
            "name": app,
            "product_id": GPU,
            "image": "acme/echo",
            "worker_config": {
                "max_replicas": 1,
                "min_replicas": 0,
                "idle_timeout": 300,
                "max_concurrent_per_worker": 10,
                "gpu_num": 1,
                "rootfs_size_gb": 20,
                "request_timeout": 60,
            },
            "app_name": app,
            "command": ECHO,
            "policy": {"type": "queue", "value": 100},
            "envs": [{"key": "K", "value": "V"}],
            "ports": [8080],
            "health_check": {"path": "/health", "port": 8080},
        }
        made: str = (await self._api("POST", self._BASE, body))["id"]
        name: str = (await self._api("GET", f"{self._BASE}/{made}"))["app_name"]
        return name

    async def serves(self, app: str) -> bool:
        return bool(
            (await self._api("GET", f"{self._BASE}/{app}"))["status"]["status"] == "serving"
        )

    async def scale(self, app: str, minimum: int, maximum: int) -> None:
        change = {"worker_config": {"min_replicas": minimum, "max_replicas": maximum}}
        await self._api("PATCH", f"{self._BASE}/{app}", change)

    async def update(self, app: str, **env: str) -> None:
        envs = [{"key": key, "value": value} for key, value in env.items()]
        await self._api("PATCH", f"{self._BASE}/{app}", {"envs": envs})

    async def delete(self, app: str) -> None:
        await self._api("DELETE", f"{self._BASE}/{app}")


class CommandWay:
    """The `penstock` command; what is to be made stands in a file."""

    def __init__(self, penstock: Installation, folder: Path) -> None:
        self._data = penstock.data
        self._folder = folder

    async def create(self, app: str) -> str:
        file = self._folder / "endpoint.yaml"
        file.write_text(
            f"app_name: {app}\n"
            f"image: {{command: {json.dumps(ECHO)}}}\n"
            f"gpu: {{products: [{GPU}], count: 1}}\n"
            "workers: {min: 0, max: 1, idle_timeout_s: 300}\n"
        )
        await self._run("deploy", "-f", str(file), "--yes")
        return app

    async def serves(self, app: str) -> bool:
        shown = json.loads(await self._run("endpoint", "show", app, "--json"))
        return bool(shown["state"] == "serving")

    async def scale(self, app: str, minimum: int, maximum: int) -> None:
        change = ("--min", str(minimum), "--max", str(maximum))
        await self._run("endpoint", "update", app, *change)

    async def update(self, app: str, **env: str) -> None:
        flags = [part for pair in env.items() for part in ("--env", "=".join(pair))]
        await self._run("endpoint", "update", app, *flags)

    async def pause(self, app: str) -> None:
        await self._run("endpoint", "pause", app)

    async def resume(self, app: str) -> None:
        await self._run("endpoint", "resume", app)

    async def delete(self, app: str) -> None:
        await self._run("endpoint", "delete", app)

    async def _run(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "penstock_cli", *arguments, "--data", str(self._data)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PENSTOCK_CONFIG": str(self._folder / "no-contexts.json")},
        )
        async with asyncio.timeout(COMMAND_S):
            out, err = await process.communicate()
        assert process.returncode == 0, f"{arguments}: {err.decode()}{out.decode()}"
        return out.decode()


class NatsWay:
    """Calls over NATS, as the user for integrations."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(self, app: str) -> str:
        document = {
            "app_name": app,
            "image": {"command": ECHO},
            "gpu": {"products": [GPU], "count": 1},
            "workers": {"min": 0, "max": 1, "idle_timeout_s": 300},
        }
        made: str = (await self._call("create", document))["app_name"]
        return made

    async def serves(self, app: str) -> bool:
        return bool((await self._call("get", {"endpoint": app}))["state"] == "serving")

    async def scale(self, app: str, minimum: int, maximum: int) -> None:
        change = {"workers": {"min": minimum, "max": maximum}}
        await self._call("update", {"endpoint": app, "change": change})

    async def update(self, app: str, **env: str) -> None:
        await self._call("update", {"endpoint": app, "change": {"env": env}})

    async def pause(self, app: str) -> None:
        await self._call("pause", {"endpoint": app})

    async def resume(self, app: str) -> None:
        await self._call("resume", {"endpoint": app})

    async def delete(self, app: str) -> None:
        await self._call("delete", {"endpoint": app})

    async def _call(self, name: str, document: object) -> dict[str, Any]:
        reply = await self._caller.call(f"endpoint.{name}", document)
        assert reply.status == 200, reply
        answer: dict[str, Any] = reply.document
        return answer


@asynccontextmanager
async def _over_nats(penstock: Installation, _folder: Path) -> AsyncIterator[Way]:
    password = (penstock.data / "nats.integration.password").read_text().strip()
    async with calling(
        penstock.urls["nats"],
        user="integration",
        password=password,
        inbox_prefix=b"_INBOX_integration",
    ) as caller:
        yield NatsWay(caller)


def _plain(
    make: Callable[[Installation, Path], Way],
) -> Callable[[Installation, Path], AbstractAsyncContextManager[Way]]:
    @asynccontextmanager
    async def way(penstock: Installation, folder: Path) -> AsyncIterator[Way]:
        yield make(penstock, folder)

    return way


#: Name → the way, within a block, for an installation and a folder of the test's own.
WAYS: Final[dict[str, Callable[[Installation, Path], AbstractAsyncContextManager[Way]]]] = {
    "native": _plain(lambda penstock, _: NativeWay(penstock)),
    "novita-v1": _plain(lambda penstock, _: NovitaV1Way(penstock)),
    "novita-v2": _plain(lambda penstock, _: NovitaV2Way(penstock)),
    "command": _plain(CommandWay),
    "nats": _over_nats,
}
