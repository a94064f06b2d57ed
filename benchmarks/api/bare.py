"""An aiohttp server that answers every GET with the bytes of a file: python -m … FILE PORT."""

import sys
from pathlib import Path

from aiohttp import web


def main() -> None:
    """Serve until it is ended."""
    body = Path(sys.argv[1]).read_bytes()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)


if __name__ == "__main__":
    main()
