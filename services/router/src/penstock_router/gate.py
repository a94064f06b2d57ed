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

from penstock_common.messages import EndpointRecord
from penstock_router.admission import Refusal
from penstock_router.catalogue import Catalogue
from penstock_router.dispatch import Dispatcher
from penstock_router.headers import REQUEST_ID, Client, Fields, build_request, given_request_id
from penstock_router.keys import check_hash, hash_key
from penstock_router.lanes import LeaseOutcome, SlotLease, Waiter
from penstock_router.problems import problem_body, problem_headers
from penstock_router.proxy.heads import RequestHead, connection_options
from penstock_router.settings import RouterSettings
from penstock_router.targets import Target, parse_target, split_absolute

#: Methods whose repetition does no harm (RFC 9110 §9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
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

    @property
    def timeout_s(self) -> float:
        """Longest life of the request at its worker."""
        return self.endpoint.spec.workers.request_timeout_s


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
    ) -> None:
        """A gate over these lanes.

        Args:
            settings: domain and trusted proxies.
            catalogue: endpoints and keys.
            dispatcher: gives slots.
            new_id: a fresh id with this prefix.
            is_ready: whether this router wants new requests.
            on_connect_failed: told (endpoint, worker) driven here that took no connection.
        """
        self._settings = settings
        self._catalogue = catalogue
        self._dispatcher = dispatcher
        self._new_id = new_id
        self._is_ready = is_ready
        self._on_connect_failed = on_connect_failed

    def client(self, address: str, scheme: str) -> Client:
        """What is known of the peer at this address."""
        return Client(address, scheme, trusted=self._trusts(address))

    def open(self, head: RequestHead, client: Client) -> Call | Answer:
        """Where the request goes; an answer when it goes nowhere."""
        fields = head.fields
        special = fields.special
        request_id = given_request_id(head) or self._new_id(_REQUEST_ID_PREFIX)
        host = special.get("host", "")
        target = parse_target(head.target, host, self._settings.domain)
        if target is None or head.method == "CONNECT":
            return self.refuse(BAD_TARGET, request_id)
        if target.path == "/":
            page = self._own_page(target, request_id)
            if page is not None:
                return page
        endpoint = self._catalogue.find_app(target.app_name) if target.app_name else None
        if endpoint is None:
            return self.refuse(UNKNOWN, request_id)
        public = endpoint.spec.public
        if not public:
            if fields.key_hash is None:
                fields.key_hash = hash_key(special.get("authorization"))
            refusal = check_hash(self._catalogue.keys_by_hash, fields.key_hash, endpoint)
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
        return Call(
            endpoint,
            build_request(
                head,
                path=target.path,
                host=host,
                client=client,
                request_id=request_id,
                # A key for Penstock is no business of the worker's.
                pass_credentials=public,
                upgrade=upgrade,
            ),
            request_id,
            expectation is not None and fields.http_11,
            head.method in _IDEMPOTENT,
            upgrade,
        )

    def refuse(self, refusal: Refusal, request_id: str) -> Answer:
        """The refusal as a response."""
        fields = [*problem_headers(refusal), (REQUEST_ID, request_id)]
        return Answer(refusal.status, fields, problem_body(refusal))

    def fresh_request_id(self) -> str:
        """A name for a request whose head could not be read."""
        return self._new_id(_REQUEST_ID_PREFIX)

    def try_acquire(
        self, call: Call, *, since: float | None = None, avoid: Collection[str] = ()
    ) -> SlotLease | Refusal | Waiter:
        """A slot for the request, a place in the queue, or a refusal; as `Dispatcher.try_acquire`."""
        return self._dispatcher.try_acquire(call.endpoint, since=since, avoid=avoid)

    def leave(self, waiter: Waiter) -> None:
        """The client that waits is gone."""
        self._dispatcher.leave(waiter)

    def time_out(self, waiter: Waiter, call: Call) -> None:
        """The client has waited for `queue.max_wait_s`."""
        self._dispatcher.time_out(waiter, call.endpoint)

    def finish(self, lease: SlotLease, outcome: LeaseOutcome) -> None:
        """The request is through with its slot. Safe to repeat."""
        if outcome == "connect_failed" and lease.driver_id == self._dispatcher.router_id:
            # Before its slot is given to the next one.
            self._on_connect_failed(lease.endpoint_id, lease.worker_id)
        self._dispatcher.finish(lease, outcome)

    def _own_page(self, target: Target, request_id: str) -> Answer | None:
        if target.app_name not in ("healthz", "readyz"):
            return None
        ready = target.app_name == "healthz" or self._is_ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        body = json.dumps({"status": "ok" if ready else "stopping"}).encode()
        fields = [("Content-Type", "application/json"), (REQUEST_ID, request_id)]
        return Answer(status, fields, body)

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
