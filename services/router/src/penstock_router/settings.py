"""Settings of the router, from the environment (`PENSTOCK_ROUTER_…`)."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from penstock_common.settings import ServiceSettings
from penstock_router.picker import Balance


class RouterSettings(ServiceSettings):
    """How one router process serves."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_ROUTER_", frozen=True, extra="ignore")

    #: address to listen on
    host: str = "127.0.0.1"
    #: port to listen on; 0 = a free one
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    #: several router processes on one port (SO_REUSEPORT); the kernel spreads connections
    reuse_port: bool = False
    #: where clients reach this router; null = from the address that it listens on
    public_url: str | None = None
    #: `<app>.<domain>` names an endpoint by its host; null = only paths do
    domain: str | None = None
    #: name of this router, unique among those that run; null = a random one at each start
    router_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] | None = None
    #: which free worker is taken: least busy first, or fullest first
    balance: Balance = "spread"
    #: what this router does with the workers that it drives once NATS is away for so long that
    #: another router may have been given them: `serve` goes on; `fence` gives out no slot of them,
    #: so that their `max_concurrency` holds even then
    on_partition: Literal["serve", "fence"] = "serve"
    #: how long a request waits for an endpoint that no node has a place for, before it is refused
    #: with that reason; longer than another endpoint's idle worker stays before it gives way (15 s)
    no_capacity_wait_s: Annotated[float, Field(ge=0, le=86_400)] = 20.0
    #: longest wait for a TCP connection to a worker
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    #: an idle connection to a worker is closed after so long; below the 5 s after which common
    #: servers (uvicorn) close it themselves, since a request may meet that close on its way
    worker_keepalive_s: Annotated[float, Field(ge=0, le=3600)] = 4.0
    #: longest wait for a response's first byte once the request is sent; null = only the endpoint's
    #: `workers.request_timeout_s` counts
    first_byte_timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    #: longest pause of a worker within a response; null = only `workers.request_timeout_s` counts
    stream_idle_timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    #: connections of clients at once; more are answered 503 `too_many_connections` and closed. null =
    #: half of the files that this process may open (its hard limit), less some: each request in
    #: flight takes a second one, to its worker
    max_connections: Annotated[int, Field(ge=1)] | None = None
    #: an idle connection of a client is closed after so long
    client_keepalive_s: Annotated[float, Field(gt=0, le=3600)] = 75.0
    #: longest time that a client takes for a request's head
    header_timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    #: longest pause of a client within a request's body
    body_idle_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    #: longest request line, and longest header field
    max_line_bytes: Annotated[int, Field(ge=1024, le=1_048_576)] = 16_384
    #: longest head: request line and header fields together
    max_head_bytes: Annotated[int, Field(ge=4096, le=4_194_304)] = 65_536
    #: longest request body; null = any
    max_body_bytes: Annotated[int, Field(ge=0)] | None = None
    #: serve a client that has closed its side of the connection after its request; false = such a
    #: client has left, which is what a FIN means with all but a few clients
    serve_half_closed: bool = False
    #: most header fields of a request
    max_headers: Annotated[int, Field(ge=16, le=1000)] = 128
    #: workers that a request is tried at, as long as that is safe
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    #: peers whose `X-Forwarded-*` are believed, e.g. `["10.0.0.0/8"]`
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    #: at a stop, how long requests in flight may take to end
    drain_timeout_s: Annotated[float, Field(ge=0, le=86_400)] = 5.0
