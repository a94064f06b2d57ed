"""A registry that stands in for one of the internet: it has one small image, or refuses."""

import asyncio
import contextlib
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import AsyncIterator

from aiohttp import web

from tests.support.ports import free_port


class SmallRegistry:
    """Has one small image, or nothing but refusals."""

    def __init__(self) -> None:
        self.port = free_port()
        #: answers every request when set
        self.refusal: tuple[int, str] | None = None
        #: so many requests are refused, then none
        self.refusals = 1_000_000
        #: cleared = no manifest is given out
        self.gate = asyncio.Event()
        self.gate.set()
        self.manifests = 0
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("empty"))
        layer_data = layer.getvalue()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/nothing"], "Labels": {"made": uuid.uuid4().hex}},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer_data)]},
        }
        config_data = json.dumps(config).encode()
        prefix = "application/vnd.docker"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{prefix}.distribution.manifest.v2+json",
                "config": {
                    "mediaType": f"{prefix}.container.image.v1+json",
                    "size": len(config_data),
                    "digest": _digest(config_data),
                },
                "layers": [
                    {
                        "mediaType": f"{prefix}.image.rootfs.diff.tar",
                        "size": len(layer_data),
                        "digest": _digest(layer_data),
                    }
                ],
            }
        ).encode()
        self.blobs = {_digest(data): data for data in (layer_data, config_data)}

    async def answer(self, request: web.Request) -> web.Response:
        if self.refusal is not None and self.refusals > 0 and request.path != "/v2/":
            self.refusals -= 1
            status, code = self.refusal
            return web.json_response({"errors": [{"code": code, "message": code}]}, status=status)
        kind, _, name = request.path.rpartition("/")
        if kind.endswith("/manifests"):
            if request.method == "GET":
                self.manifests += 1
            await self.gate.wait()
            return web.Response(
                body=self.manifest,
                content_type="application/vnd.docker.distribution.manifest.v2+json",
                headers={"Docker-Content-Digest": _digest(self.manifest)},
            )
        if name in self.blobs:
            return web.Response(body=self.blobs[name], content_type="application/octet-stream")
        return web.Response(headers={"Docker-Distribution-Api-Version": "registry/2.0"})

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield f"127.0.0.1:{self.port}/small:1"
        finally:
            await runner.cleanup()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
