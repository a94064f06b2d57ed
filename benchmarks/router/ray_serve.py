"""Ray Serve before the same worker: its HTTP proxy, and one replica that asks the worker.

python -m benchmarks.router.ray_serve PORT WORKER_PORT    (with the Python of .venv-bench)
"""

import signal
import sys

import aiohttp
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


class Forward:
    """Passes a request on, as an ingress deployment does."""

    def __init__(self, worker_port: int) -> None:
        """Forwards to this port."""
        self._url = f"http://127.0.0.1:{worker_port}"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, request: Request) -> Response:
        """The worker's answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = await request.body()
        async with self._session.request(
            request.method, self._url + request.url.path, data=body
        ) as answer:
            return Response(await answer.read(), answer.status)


def main() -> None:
    """Serve until a signal."""
    port, worker_port = int(sys.argv[1]), int(sys.argv[2])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 30})
    deployment = serve.deployment(max_ongoing_requests=1_000, ray_actor_options={"num_cpus": 0})
    serve.run(deployment(Forward).bind(worker_port))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    ray.shutdown()


if __name__ == "__main__":
    main()
