"""The seam between bytes and decisions: what the proxy asks the router about one request.

`proxy/` knows sockets and HTTP, this module knows neither: it takes a request's head, says where
it goes or how it is refused, and gives and takes slots. Another proxy can stand on it. Nothing here
waits: a request that finds no slot gets a `Waiter`, whose answer comes later.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from penstock_common.clock import Clock, SystemClock
from penstock_common.entropy import random_hex
from penstock_common.messages import EndpointRecord
from penstock_common.states import TicketOutcome
from penstock_router.admission import Refusal
from penstock_router.catalogue import Catalogue
from penstock_router.dispatch import Dispatcher
from penstock_router.headers import (
    REQUEST_ID,
    Client,
    Fields,
    build_request,
    build_request_start,
    given_affinity,
    given_request_id,
)
from penstock_router.keys import check_hash, check_reader, hash_key
from penstock_router.lanes import LeaseOutcome, SlotLease, Waiter
from penstock_router.metrics import CONTENT_TYPE, Metrics
from penstock_router.problems import problem_body, problem_headers
from penstock_router.proxy.heads import RequestHead, connection_options
from penstock_router.settings import RouterSettings
from penstock_router.targets import Target, parse_target, split_absolute
from penstock_router.traces import TRACEPARENT, Trace, begin_trace, read_trace

#: Methods whose repetition does no harm (RFC 9110 §9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_CLOCK: Final = SystemClock()
_REQUEST_ID_PREFIX: Final = "req"
#: Asks for another HTTP on this connection: a way round every check of a proxy.
_NEVER_UPGRADED: Final = frozenset({"h2", "h2c"})

BAD_TARGET: Final = Refusal(400, "bad_target", "The request target is no path.")
UNKNOWN: Final = Refusal(
    404, "unknown_endpoint", "No endpoint has this name; the path begins with /<app_name>/."
)
BAD_EXPECTATION: Final = Refusal(
    417, "bad_expectation", "Of expectations only 100-continue can be met."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the router's own."""

    status: int
    fields: Fields
    body: bytes


@dataclass(slots=True)
class Call:
    """A request that may be passed on."""

    endpoint: EndpointRecord
    #: of the request to the worker, whole
    head: bytes
    request_id: str
    #: whether the client waits for `100 Continue` before it sends the body
    expects_continue: bool
    #: whether it may be sent again although a worker may have seen it
    idempotent: bool
    #: protocol that the connection is to change to; None = it stays HTTP
    upgrade: str | None
    #: longest life of the request at its worker, seconds
    timeout_s: float
    #: equal for requests that should meet at one worker; None = any worker will do
    affinity: str | None = None


@dataclass(slots=True)
class _Way:
    """What was decided about a request, for the next one with the same head from the same client.

    Only what its endpoint's record, its head and its client decide: whether the key is good is
    asked anew each time.
    """

    app_name: str
    #: as it was when this was decided; another record makes it void
    endpoint: EndpointRecord
    #: of the forwarded head, up to the request's id
    start: str
    #: the client's own
    request_id: str | None
    #: the client's own
    trace: Trace | None
    expects_continue: bool
    idempotent: bool
    upgrade: str | None
    timeout_s: float
    affinity: str | None


class Gate:
    """Decides about requests."""

    def __init__(
        self,
        *,
        settings: RouterSettings,
        catalogue: Catalogue,
        dispatcher: Dispatcher,
        new_id: Callable[[str], str],
        is_ready: Callable[[], bool],
        on_connect_failed: Callable[[str, str], None],
        new_hex: Callable[[int], str] = random_hex,
        clock: Clock = _CLOCK,
    ) -> None:
        """A gate over these lanes.

        Args:
            settings: domain and trusted proxies.
            catalogue: endpoints and keys.
            dispatcher: gives slots.
            new_id: a fresh id with this prefix.
            is_ready: whether this router wants new requests.
            on_connect_failed: told (endpoint, worker) driven here that took no connection.
            new_hex: so many random hexadecimal digits, of which traces are named.
            clock: for the durations that are counted, and for keys that expire.
        """
        self._settings = settings
        self._catalogue = catalogue
        self._dispatcher = dispatcher
        self._new_id = new_id
        self._new_hex = new_hex
        self.metrics = Metrics()
        #: seconds that never go back, for durations
        self.now = clock.monotonic
        self._utc = clock.utc
        self._is_ready = is_ready
        self._on_connect_failed = on_connect_failed

    def client(self, address: str, scheme: str) -> Client:
        """What is known of the peer at this address."""
        return Client(address, scheme, trusted=self._trusts(address))

    def open(self, head: RequestHead, client: Client) -> Call | Answer:
        """Where the request goes; an answer when it goes nowhere.

        Args:
            head: of the request; of this client's alone, since what is decided is kept in it.
            client: the same for all requests with this head.
        """
        way = head.way
        if not isinstance(way, _Way) or self._catalogue.find_app(way.app_name) is not way.endpoint:
            decided = self._decide_way(head, client)
            if isinstance(decided, Answer):
                return decided
            way = head.way = decided
        request_id = way.request_id or self._new_id(_REQUEST_ID_PREFIX)
        endpoint = way.endpoint
        refusal = self._check_key(head, endpoint)
        if refusal is not None:
            return self.refuse(refusal, request_id)
        trace = way.trace
        digits = self._new_hex(16) if trace else self._new_hex(48)
        return Call(
            endpoint,
            build_request(
                way.start,
                request_id,
                trace or begin_trace(digits[16:]),
                digits[:16],
            ),
            request_id,
            way.expects_continue,
            way.idempotent,
            way.upgrade,
            way.timeout_s,
            way.affinity,
        )

    def _decide_way(self, head: RequestHead, client: Client) -> _Way | Answer:
        fields = head.fields
        special = fields.special
        request_id = given_request_id(head)
        host = special.get("host", "")
        target = parse_target(head.target, host, self._settings.domain)
        if target is None or head.method == "CONNECT":
            return self.refuse(BAD_TARGET, request_id)
        if target.path == "/":
            page = self._own_page(target, head, request_id)
            if page is not None:
                return page
        app_name = target.app_name
        endpoint = self._catalogue.find_app(app_name) if app_name else None
        if app_name is None or endpoint is None:
            return self.refuse(UNKNOWN, request_id)
        refusal = self._check_key(head, endpoint)
        if refusal is not None:
            return self.refuse(refusal, request_id)
        expectation = special.get("expect")
        if expectation is not None and expectation.lower() != "100-continue":
            return self.refuse(BAD_EXPECTATION, request_id)
        if head.target[0] != "/":
            # The target in absolute form says which host is meant, whatever `Host` says.
            absolute = split_absolute(head.target)
            host = absolute[0] if absolute is not None else host
        upgrade = self._upgrade(head) if "upgrade" in special else None
        trace = read_trace(special.get(TRACEPARENT))
        return _Way(
            app_name,
            endpoint,
            build_request_start(
                head,
                path=target.path,
                host=host,
                client=client,
                trace_goes_on=trace is not None,
                # A key for Penstock is no business of the worker's.
                pass_credentials=endpoint.spec.public,
                upgrade=upgrade,
            ),
            request_id,
            trace,
            expectation is not None and fields.http_11,
            head.method in _IDEMPOTENT,
            upgrade,
            endpoint.spec.workers.request_timeout_s,
            given_affinity(head),
        )

    def _check_key(self, head: RequestHead, endpoint: EndpointRecord) -> Refusal | None:
        if endpoint.spec.public:
            return None
        fields = head.fields
        if fields.key_hash is None:
            fields.key_hash = hash_key(fields.special.get("authorization"))
        return check_hash(self._catalogue.keys_by_hash, fields.key_hash, endpoint, self._utc())

    def refuse(self, refusal: Refusal, request_id: str | None) -> Answer:
        """The refusal as a response; to a request without an id it gives one."""
        request_id = request_id or self.fresh_request_id()
        fields = [*problem_headers(refusal), (REQUEST_ID, request_id)]
        return Answer(refusal.status, fields, problem_body(refusal))

    def fresh_request_id(self) -> str:
        """A name for a request whose head could not be read."""
        return self._new_id(_REQUEST_ID_PREFIX)

    def try_acquire(
        self, call: Call, *, since: float | None = None, avoid: Collection[str] = ()
    ) -> SlotLease | Refusal | Waiter:
        """A slot for the request, a place in the queue, or a refusal; as `Dispatcher.try_acquire`."""
        return self._dispatcher.try_acquire(
            call.endpoint, since=since, avoid=avoid, affinity=call.affinity
        )

    def leave(self, waiter: Waiter) -> None:
        """The client that waits is gone."""
        self._count_wait(waiter, TicketOutcome.CANCELLED)
        self._dispatcher.leave(waiter)

    def answered(self, waiter: Waiter) -> None:
        """The client that waited was given its answer, and has it."""
        served = isinstance(waiter.given, SlotLease)
        self._count_wait(waiter, TicketOutcome.DISPATCHED if served else TicketOutcome.EVICTED)

    def _count_wait(self, waiter: Waiter, outcome: TicketOutcome) -> None:
        self.metrics.wait(outcome, max(0.0, self.now() - waiter.since))

    def time_out(self, waiter: Waiter, call: Call) -> None:
        """The client has waited for `queue.max_wait_s`."""
        self._dispatcher.time_out(waiter, call.endpoint)

    def finish(self, lease: SlotLease, outcome: LeaseOutcome) -> None:
        """The request is through with its slot. Safe to repeat."""
        if outcome == "connect_failed" and lease.driver_id == self._dispatcher.router_id:
            # Before its slot is given to the next one.
            self._on_connect_failed(lease.endpoint_id, lease.worker_id)
        self._dispatcher.finish(lease, outcome)

    def _own_page(self, target: Target, head: RequestHead, request_id: str | None) -> Answer | None:
        if target.app_name == "metrics":
            return self._metrics_page(head, request_id)
        if target.app_name not in ("healthz", "readyz"):
            return None
        ready = target.app_name == "healthz" or self._is_ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        body = json.dumps({"status": "ok" if ready else "stopping"}).encode()
        fields = [
            ("Content-Type", "application/json"),
            (REQUEST_ID, request_id or self.fresh_request_id()),
        ]
        return Answer(status, fields, body)

    def _metrics_page(self, head: RequestHead, request_id: str | None) -> Answer:
        """The counters, which name every endpoint: only for those who may read them all."""
        key_hash = hash_key(head.fields.special.get("authorization"))
        refusal = check_reader(self._catalogue.keys_by_hash, key_hash, self._utc())
        if refusal is not None:
            return self.refuse(refusal, request_id)
        fields = [
            ("Content-Type", CONTENT_TYPE),
            (REQUEST_ID, request_id or self.fresh_request_id()),
        ]
        return Answer(HTTPStatus.OK, fields, self.metrics.text().encode())

    @staticmethod
    def _upgrade(head: RequestHead) -> str | None:
        """The protocol to change to, if this request may ask for it; else the field is ignored."""
        fields = head.fields
        protocol = fields.special["upgrade"]
        if (
            not fields.http_11
            or fields.length != 0  # a body and a tunnel would share the connection
            or "," in protocol
            or protocol.partition("/")[0].lower() in _NEVER_UPGRADED
            or "upgrade" not in connection_options(fields.special.get("connection"))
        ):
            return None
        return protocol

    def _trusts(self, peer: str) -> bool:
        networks = self._settings.trusted_proxies
        if not networks:
            return False
        try:
            address = ip_address(peer)
        except ValueError:  # a Unix socket has no address
            return False
        return any(address in network for network in networks)
