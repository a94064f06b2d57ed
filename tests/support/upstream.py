"""A tiny real worker: an HTTP server that a test can hold, and that counts what it has in flight."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web


class UpstreamServer:
    """What a worker's image would be.

    GET /health        200, or 503 when `healthy` is false
    *   /echo…         what came, as JSON
    *   /hold          answers once `release` is set
    *   /sleep?s=0.1   answers after that
    GET /events?n=3    server-sent events, each one after `step` was released once
    GET /big?n=1000    that many bytes
    GET /pour          a body without end; `poured_bytes` counts what was taken of it
    *   /count         reads the body, answers its length and SHA-256
    *   /broken        half an answer, then the connection is cut
    *   /cut           the connection is cut before an answer
    GET /websocket     a WebSocket that says what it is told; `close <code>` closes it
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.healthy = True
        self.in_flight = 0
        self.most_in_flight = 0
        self.n_requests = 0
        self.n_cancelled = 0
        self.poured_bytes = 0
        self.release = asyncio.Event()
        self.step = asyncio.Semaphore(0)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/health", self._health)
        app.router.add_route("*", "/{tail:.*}", self._any)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, auto_decompress=False, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _any(self, request: web.Request) -> web.StreamResponse:
        self.in_flight += 1
        self.n_requests += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            self.n_cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        handlers = {
            "/hold": self._hold,
            "/sleep": self._sleep,
            "/events": self._events,
            "/big": self._big,
            "/pour": self._pour,
            "/count": self._count,
            "/broken": self._broken,
            "/cut": self._cut,
            "/websocket": self._websocket,
        }
        return await handlers.get(request.path, self._echo)(request)

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {
                "method": request.method,
                "target": request.raw_path,
                "headers": [list(pair) for pair in request.headers.items()],
                "body": (await request.read()).decode(errors="replace"),
            },
            headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
        )

    async def _hold(self, request: web.Request) -> web.StreamResponse:
        await self.release.wait()
        return web.Response(text="held")

    async def _sleep(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(float(request.query["s"]))
        return web.Response(text="slept")

    async def _big(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * int(request.query["n"]))

    async def _pour(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            self.poured_bytes += 65_536

    async def _count(self, request: web.Request) -> web.StreamResponse:
        digest, n_bytes = hashlib.sha256(), 0
        async for piece in request.content.iter_any():
            digest.update(piece)
            n_bytes += len(piece)
        return web.json_response({"n_bytes": n_bytes, "sha256": digest.hexdigest()})

    async def _broken(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        await self.step.acquire()
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data.startswith("close "):
                await socket.close(code=int(message.data[6:]), message=b"as told")
            else:
                await socket.send_str(message.data)
        return socket

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for i in range(int(request.query["n"])):
            await self.step.acquire()
            await response.write(f"data: {i}\n\n".encode())
        return response


@contextlib.asynccontextmanager
async def running_upstream(port: int = 0) -> AsyncIterator[UpstreamServer]:
    """An upstream that lives for this block."""
    server = UpstreamServer(port)
    await server.start()
    try:
        yield server
    finally:
        server.release.set()
        await server.stop()
