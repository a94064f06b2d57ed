"""The seam between bytes and decisions: what the proxy asks the router about one request.

`proxy/` knows sockets and HTTP, this module knows neither: it takes a request's head, says where
it goes or how it is refused, and gives and takes slots. Another proxy can stand on it.
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
from penstock_router.headers import (
    REQUEST_ID,
    Client,
    Fields,
    build_request,
    connection_options,
    first_value,
    given_request_id,
)
from penstock_router.keys import check_key
from penstock_router.lanes import LeaseOutcome, SlotLease
from penstock_router.problems import problem_body, problem_headers
from penstock_router.settings import RouterSettings
from penstock_router.targets import Target, parse_target

#: Methods whose repetition does no harm (RFC 9110 §9.2.2).
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_REQUEST_ID_PREFIX: Final = "req"

BAD_TARGET: Final = Refusal(400, "bad_target", "The request target is no path.")
NO_HOST: Final = Refusal(400, "missing_host", "An HTTP/1.1 request names its host.")
UNKNOWN: Final = Refusal(
    404, "unknown_endpoint", "No endpoint has this name; the path begins with /<app_name>/."
)
BAD_EXPECTATION: Final = Refusal(
    417, "bad_expectation", "Of expectations only 100-continue can be met."
)
NO_UPGRADE: Final = Refusal(
    501, "upgrade_not_supported", "This router does not pass WebSocket connections yet."
)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body, as it came."""

    method: str
    #: the request target, untouched
    target: str
    #: (1, 1) for HTTP/1.1
    version: tuple[int, int]
    fields: Fields
    #: IP address of the peer
    peer: str
    #: `http` or `https`
    scheme: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the router's own."""

    status: int
    fields: Fields
    body: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be passed on."""

    endpoint: EndpointRecord
    method: str
    #: path and query for the worker
    path: str
    #: header fields for the worker
    fields: Fields
    request_id: str
    #: whether the client waits for `100 Continue` before it sends the body
    expects_continue: bool
    #: whether it may be sent again although a worker may have seen it
    idempotent: bool

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

    def open(self, head: RequestHead) -> Call | Answer:
        """Where the request goes; an answer when it goes nowhere."""
        request_id = given_request_id(head.fields) or self._new_id(_REQUEST_ID_PREFIX)
        host = first_value(head.fields, "host")
        if host is None and head.version >= (1, 1):
            return self.refuse(NO_HOST, request_id)
        target = parse_target(head.target, host or "", self._settings.domain)
        if target is None:
            return self.refuse(BAD_TARGET, request_id)
        page = self._own_page(target, request_id)
        if page is not None:
            return page
        endpoint = self._catalogue.find_app(target.app_name) if target.app_name else None
        if endpoint is None:
            return self.refuse(UNKNOWN, request_id)
        refusal = self._check(head, endpoint)
        if refusal is not None:
            return self.refuse(refusal, request_id)
        return Call(
            endpoint=endpoint,
            method=head.method,
            path=target.path,
            fields=build_request(
                head.fields,
                client=Client(head.peer, head.scheme, trusted=self._trusts(head.peer)),
                request_id=request_id,
                # A key for Penstock is no business of the worker's.
                drop=() if endpoint.spec.public else ("authorization",),
            ),
            request_id=request_id,
            expects_continue=first_value(head.fields, "expect") is not None
            and head.version >= (1, 1),
            idempotent=head.method in _IDEMPOTENT,
        )

    def refuse(self, refusal: Refusal, request_id: str) -> Answer:
        """The refusal as a response."""
        fields = [*problem_headers(refusal), (REQUEST_ID, request_id)]
        return Answer(refusal.status, fields, problem_body(refusal))

    async def acquire(
        self, call: Call, *, since: float | None, avoid: Collection[str]
    ) -> SlotLease:
        """A slot for the request, as `Dispatcher.acquire` gives it.

        Raises:
            RefusedError: it is not served.
        """
        return await self._dispatcher.acquire(call.endpoint, since=since, avoid=avoid)

    def finish(self, lease: SlotLease, outcome: LeaseOutcome) -> None:
        """The request is through with its slot. Safe to repeat."""
        if outcome == "connect_failed" and lease.driver_id == self._dispatcher.router_id:
            # Before its slot is given to the next one.
            self._on_connect_failed(lease.endpoint_id, lease.worker_id)
        self._dispatcher.finish(lease, outcome)

    def _own_page(self, target: Target, request_id: str) -> Answer | None:
        if target.path != "/" or target.app_name not in ("healthz", "readyz"):
            return None
        ready = target.app_name == "healthz" or self._is_ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        body = json.dumps({"status": "ok" if ready else "stopping"}).encode()
        fields = [("Content-Type", "application/json"), (REQUEST_ID, request_id)]
        return Answer(status, fields, body)

    def _check(self, head: RequestHead, endpoint: EndpointRecord) -> Refusal | None:
        authorization = first_value(head.fields, "authorization")
        refusal = check_key(self._catalogue.keys_by_hash, authorization, endpoint)
        if refusal is not None:
            return refusal
        expectation = first_value(head.fields, "expect")
        if expectation is not None and expectation.strip().lower() != "100-continue":
            return BAD_EXPECTATION
        upgrade = first_value(head.fields, "upgrade")
        if (
            upgrade is not None
            and upgrade.strip().lower() == "websocket"
            and "upgrade" in connection_options(head.fields)
        ):
            return NO_UPGRADE
        return None

    def _trusts(self, peer: str) -> bool:
        networks = self._settings.trusted_proxies
        if not networks:
            return False
        try:
            address = ip_address(peer)
        except ValueError:  # a Unix socket has no address
            return False
        return any(address in network for network in networks)
