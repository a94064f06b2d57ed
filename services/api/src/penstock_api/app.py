"""The api as a process: its HTTP application, and its life from connecting to draining."""

import asyncio
import json
import logging
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from penstock_api import auth, idempotency
from penstock_api.audit.follower import AuditFollower
from penstock_api.audit.reader import AuditReader
from penstock_api.audit.requests import audited, note_denial
from penstock_api.audit.trail import AuditTrail
from penstock_api.bodies import MAX_BODY_BYTES
from penstock_api.connections import ConnectionSweep
from penstock_api.context import Api
from penstock_api.docs_page import docs_page
from penstock_api.error_forms import error_response
from penstock_api.event_reader import EventReader
from penstock_api.http_repeats import answer_once
from penstock_api.idempotency import Repeats
from penstock_api.key_uses import KeyUseBook
from penstock_api.load_history import BUCKET_S, LoadHistory
from penstock_api.loads import FRESH_S, Loads
from penstock_api.log_reader import LogReader
from penstock_api.novita import (
    v1_catalog,
    v1_endpoints,
    v1_prewarms,
    v1_registry_auths,
    v1_storages,
    v2_endpoints,
)
from penstock_api.open_streams import MAX_STREAMS, OpenStreams
from penstock_api.openapi import openapi_document
from penstock_api.problems import RefusedError, refused, refused_by_aiohttp
from penstock_api.rate_limits import RateLimits
from penstock_api.reaper import Reaper
from penstock_api.request_ids import request_id, tell_request_id
from penstock_api.retreat import Retreat
from penstock_api.routes import (
    api_keys,
    audit,
    documentation,
    endpoints,
    events,
    health,
    join_tokens,
    logs,
    metrics,
    nodes,
    offers,
    prewarms,
    registry_auths,
    replacements,
    usage,
    volumes,
    webhooks,
    workers,
)
from penstock_api.routes.route import CALLER, Route
from penstock_api.rpc.asyncapi import asyncapi_document
from penstock_api.rpc.asyncapi_page import asyncapi_page
from penstock_api.rpc.service import OPERATIONS, CallService
from penstock_api.runpod import endpoints as runpod_endpoints
from penstock_api.runpod import templates as runpod_templates
from penstock_api.settings import ApiSettings
from penstock_api.store import Store
from penstock_api.turns import take_turn
from penstock_api.usage_reader import UsageReader
from penstock_api.webhooks.deliveries import DeliveryLog
from penstock_api.webhooks.outbox import Outbox
from penstock_api.webhooks.service import ack_wait_s, run_webhooks
from penstock_common import lifecycle
from penstock_common.clock import SystemClock
from penstock_common.errors import PenstockError
from penstock_common.events.catalogue import CATALOGUE, Service
from penstock_common.events.publisher import EventPublisher
from penstock_common.log_stream import LogStream
from penstock_common.messages import QueueReport
from penstock_common.nats.connection import Bus, Received
from penstock_common.nats.kv import Bucket
from penstock_common.nats.streams import check_durability, ensure_streams
from penstock_common.sealing import Sealer
from penstock_common.secret_keys import read_sealer
from penstock_common.subjects import KEY_USES_ALL, KEY_USES_QUEUE, QUEUE_METRICS_ALL, REPEATS

logger = logging.getLogger(__name__)

#: Every route of the api; the docs are checked against it.
ROUTES: Final[tuple[Route, ...]] = (
    *endpoints.ROUTES,
    *replacements.ROUTES,
    *workers.ROUTES,
    *logs.ROUTES,
    *metrics.ROUTES,
    *events.ROUTES,
    *nodes.ROUTES,
    *offers.ROUTES,
    *registry_auths.ROUTES,
    *volumes.ROUTES,
    *prewarms.ROUTES,
    *api_keys.ROUTES,
    *join_tokens.ROUTES,
    *webhooks.ROUTES,
    *usage.ROUTES,
    *audit.ROUTES,
    *health.ROUTES,
    *documentation.ROUTES,
    *v1_endpoints.ROUTES,
    *v1_registry_auths.ROUTES,
    *v1_storages.ROUTES,
    *v1_catalog.ROUTES,
    *v1_prewarms.ROUTES,
    *v2_endpoints.ROUTES,
    *runpod_endpoints.ROUTES,
    *runpod_templates.ROUTES,
)
#: After a refusal the rest of the body is read and thrown away for so long, so that the client
#: gets to read the answer before the connection ends.
LINGER_S: Final = 1.0
#: A bucket of the history is closed so long after its end.
_AFTER_S: Final = 0.01
#: Events announced before the stop get so long to be published.
FLUSH_S: Final = 1.0
#: How long NATS may take over a write: a disk that stalls has it wait for seconds, and who asked
#: for a change would have to find out whether it was made.
ANSWER_S: Final = 5.0


def build_app(api: Api, sweep: ConnectionSweep) -> web.Application:
    """The HTTP application over these parts."""
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[_note_connections(sweep), _answer_and_log(api)],
    )
    app.on_response_prepare.append(tell_request_id)
    document = openapi_document(ROUTES, version=version("penstock-api"))
    app[documentation.OPENAPI_JSON] = json.dumps(document, indent=1)
    app[documentation.DOCS_PAGE] = docs_page(document)
    over_nats = asyncapi_document(
        OPERATIONS, tuple(CATALOGUE.values()), version=version("penstock-api")
    )
    app[documentation.ASYNCAPI_JSON] = json.dumps(over_nats, indent=1)
    app[documentation.ASYNCAPI_PAGE] = asyncapi_page(over_nats)
    for route in ROUTES:
        handler = _bind(api, route)
        app.router.add_route(route.method, route.path, handler)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, handler)
    return app


def _bind(api: Api, route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        keys = (row.value for row in api.store.api_keys.rows.values())
        try:
            caller = auth.authorize(request, route.scope, keys, api.clock.utc())
        except RefusedError as refusal:
            note_denial(api, route, request, refusal)
            if isinstance(refusal, auth.RightMissingError):
                api.key_uses.note(refusal.record.key_id)
            if refusal.status == HTTPStatus.UNAUTHORIZED:  # so that nobody guesses keys quickly
                take_turn(api, f"address {request.remote}")
            raise
        if caller is not None:
            request[CALLER] = caller
            api.key_uses.note(caller.key_id)
            take_turn(api, request.headers[hdrs.AUTHORIZATION])
        if (
            route.method == "GET"
            or caller is None  # whoever asks for no key would have answers stored for anybody
            or idempotency.HEADER not in request.headers
        ):
            return await audited(api, route, request)
        return await answer_once(api, request, lambda: audited(api, route, request))

    return handle


def _note_connections(sweep: ConnectionSweep) -> Middleware:
    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        sweep.note(request)
        return await handler(request)

    return note


def _answer_and_log(api: Api) -> Middleware:
    """Turn every error into problem details, and log each request in one line."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = api.clock.monotonic()
        try:
            response = await handler(request)
        except PenstockError as error:
            response = error_response(request.path, refused(error))
        except web.HTTPException as error:
            response = error_response(request.path, refused_by_aiohttp(error))
        except Exception:
            logger.exception(
                "request failed",
                extra={"action": "request_failed", "request_id": request_id(request)},
            )
            response = error_response(
                request.path,
                RefusedError(500, "internal", "the api met an error; its log says more"),
            )
        resource = request.match_info.route.resource
        logger.log(
            logging.DEBUG if request.method in {"GET", "HEAD"} else logging.INFO,
            "request answered",
            extra={
                "action": "request_answered",
                "request_id": request_id(request),
                "http.request.method": request.method,
                "http.route": resource.canonical if resource else None,
                "http.response.status_code": response.status,
                "duration_s": round(api.clock.monotonic() - started, 6),
            },
        )
        return response

    return answer


async def serve(settings: ApiSettings, stopping: asyncio.Event) -> None:
    """Run the api until `stopping` is set.

    Raises:
        MisconfiguredError: the settings cannot work.
    """
    admin_key = auth.read_admin_key(settings.admin_key_file)
    sealer = _sealer(settings)
    clock = SystemClock()
    bus = await Bus.connect(settings, name="api", clock=clock, answer_s=ANSWER_S)
    try:
        await ensure_streams(bus, replicas=settings.nats_replicas, may_change=True)
        await check_durability(bus, settings.nats_monitor_url)
        store = Store(bus, clock)
        try:
            await store.start()
            trail = AuditTrail(bus, clock)
            await store.put_admin_key(auth.hash_key(admin_key), trail.own)
            repeats = Repeats(Bucket(bus, REPEATS), sealer)
            limits = RateLimits(settings.rate_limit_per_s, settings.rate_limit_burst)
            streams = OpenStreams(MAX_STREAMS)
            trail_reader = AuditReader(bus)
            api = Api(
                settings,
                clock,
                store,
                Loads(),
                EventPublisher(bus, clock, Service.API),
                sealer,
                repeats,
                limits,
                UsageReader(bus),
                LogReader(LogStream(bus), store, clock, streams),
                LoadHistory(clock.utc().timestamp()),
                Outbox(bus, ack_wait_s=ack_wait_s(settings)),
                DeliveryLog(bus),
                EventReader(bus, streams),
                trail,
                trail_reader,
                AuditFollower(bus, trail_reader, streams, clock),
                KeyUseBook(bus, store, clock),
            )
            await _serve_http(api, bus, streams, stopping)
        finally:
            await store.stop()
    finally:
        await bus.close()


def _sealer(settings: ApiSettings) -> Sealer:
    sealer = read_sealer(settings)
    if sealer is None:
        raise lifecycle.MisconfiguredError(
            "there is no key of secrets: set PENSTOCK_API_SECRET_KEY_FILE to the file that holds it, "
            "or PENSTOCK_API_SECRET_KEY to the key"
        )
    return sealer


async def _serve_http(api: Api, bus: Bus, streams: OpenStreams, stopping: asyncio.Event) -> None:
    settings = api.settings
    sweep = ConnectionSweep(settings.head_timeout_s)
    runner = web.AppRunner(
        build_app(api, sweep),
        access_log=None,
        keepalive_timeout=settings.keepalive_timeout_s,
        shutdown_timeout=settings.shutdown_timeout_s,
        lingering_time=LINGER_S,
        auto_decompress=False,
    )
    await runner.setup()
    server = runner.server
    assert server is not None
    # What comes a moment later is as good: a server that is slow to confirm ends no start.
    reports = bus.subscribe_nowait(QUEUE_METRICS_ALL, lambda message: _note_load(api, message))
    used_keys = bus.subscribe_nowait(KEY_USES_ALL, api.key_uses.hear, queue=KEY_USES_QUEUE)
    calls = CallService(api, bus)
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise lifecycle.MisconfiguredError(
                f"cannot listen on {settings.host} port {settings.port}: {error}"
            ) from None
        async with asyncio.TaskGroup() as group:
            # Each of these runs for ever: when one dies, the group ends the process.
            loops = [
                group.create_task(Reaper(api.store, api.audit, api.clock).run(), name="reaper"),
                group.create_task(
                    Retreat(api.store, api.audit, api.clock).run(
                        partial(endpoints.announce_retreat, api)
                    ),
                    name="retreat",
                ),
                group.create_task(api.events.run(), name="events"),
                group.create_task(api.audit.run(), name="audit"),
                group.create_task(api.key_uses.run(), name="key uses"),
                group.create_task(run_webhooks(api, bus), name="webhooks"),
                group.create_task(_forget_stale_loads(api), name="loads"),
                group.create_task(_keep_history(api), name="history"),
                group.create_task(
                    sweep.run(lambda: server.connections, api.clock.monotonic), name="sweep"
                ),
            ]
            await calls.start()
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            url = f"http://{host}:{runner.addresses[0][1]}"
            lifecycle.notify_ready(health_url=f"{url}/readyz", url=url)
            await stopping.wait()
            streams.close()  # else they would be waited for
            async with asyncio.TaskGroup() as ends:
                ends.create_task(calls.stop(settings.shutdown_timeout_s), name="end of calls")
                ends.create_task(runner.cleanup(), name="end of HTTP")
            await api.events.flush(FLUSH_S)
            await api.audit.flush(FLUSH_S)
            for loop in loops:
                loop.cancel()
    finally:
        await reports.close()
        await used_keys.close()
        await runner.cleanup()


def _note_load(api: Api, message: Received) -> None:
    try:
        report = QueueReport.decode(message.data)
    except ValueError as error:
        logger.warning(
            "queue report unreadable",
            extra={"action": "report_unreadable", "subject": message.subject, "error": str(error)},
        )
        return
    api.loads.note(report, api.clock.monotonic())
    api.history.note(report, api.clock.utc().timestamp())


async def _forget_stale_loads(api: Api) -> None:
    while True:
        await asyncio.sleep(FRESH_S)
        api.loads.forget_stale(api.clock.monotonic())


async def _keep_history(api: Api) -> None:
    while True:
        # A clock that is set back makes it wait; one bucket at most, so that it sees it set forward.
        wait_s = api.history.due_at() - api.clock.utc().timestamp()
        await asyncio.sleep(min(max(wait_s, 0.0) + _AFTER_S, BUCKET_S))
        metrics.close_bucket(api)
