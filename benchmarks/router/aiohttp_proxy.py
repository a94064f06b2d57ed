"""The proxy that one writes first: aiohttp on both sides, streaming, pooled connections.

python -m benchmarks.router.aiohttp_proxy PORT UPSTREAM_PORT
"""

import asyncio
import sys
from typing import Final

import aiohttp
import uvloop
from aiohttp import web

_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "te", "transfer-encoding", "upgrade"})


async def main(port: int, upstream_port: int) -> None:
    """Serve until cancelled."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def forward(request: web.BaseRequest) -> web.StreamResponse:
            url = f"http://127.0.0.1:{upstream_port}{request.raw_path}"
            headers = {n: v for n, v in request.headers.items() if n.lower() not in _HOP_BY_HOP}
            body = request.content if request.can_read_body else None
            async with session.request(request.method, url, headers=headers, data=body) as answer:
                response = web.StreamResponse(status=answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        response.headers.add(name, value)
                await response.prepare(request)
                async for data in answer.content.iter_any():
                    await response.write(data)
                await response.write_eof()
                return response

        server = web.Server(forward, access_log=None)
        listener = await asyncio.get_running_loop().create_server(
            server, "127.0.0.1", port, backlog=4096
        )
        await listener.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
