"""Every NATS name of Penstock: subjects, buckets, streams, consumers. Nothing else spells one.

Subjects begin with `penstock.v1.`, buckets and streams with `PENSTOCK_`. A KV bucket B is, to the
server, the stream `KV_B` over the subjects `$KV.B.<key>` (ADR-8 of NATS).
"""

import re
from typing import Final

PREFIX: Final = "penstock.v1"

# KV buckets
ENDPOINTS: Final = "PENSTOCK_ENDPOINTS"
ENDPOINT_STATUS: Final = "PENSTOCK_ENDPOINT_STATUS"
REVISIONS: Final = "PENSTOCK_REVISIONS"
SCALE_HISTORY: Final = "PENSTOCK_SCALE_HISTORY"
WORKERS: Final = "PENSTOCK_WORKERS"
WORKER_STATUS: Final = "PENSTOCK_WORKER_STATUS"
NODES: Final = "PENSTOCK_NODES"
NODE_ORDERS: Final = "PENSTOCK_NODE_ORDERS"
WORKER_ORDERS: Final = "PENSTOCK_WORKER_ORDERS"
ROUTERS: Final = "PENSTOCK_ROUTERS"
API_KEYS: Final = "PENSTOCK_API_KEYS"
KEY_USES: Final = "PENSTOCK_KEY_USES"
JOIN_TOKENS: Final = "PENSTOCK_JOIN_TOKENS"
REPEATS: Final = "PENSTOCK_REPEATS"
REGISTRY_AUTHS: Final = "PENSTOCK_REGISTRY_AUTHS"
TEMPLATES: Final = "PENSTOCK_TEMPLATES"
VOLUMES: Final = "PENSTOCK_VOLUMES"
PREWARMS: Final = "PENSTOCK_PREWARMS"
PREWARM_STATUS: Final = "PENSTOCK_PREWARM_STATUS"
WEBHOOKS: Final = "PENSTOCK_WEBHOOKS"
WEBHOOK_STATUS: Final = "PENSTOCK_WEBHOOK_STATUS"

# The scheduler's lease lives in the bucket that it guards, since a server-side fence reaches only
# the stream of the write (docs/adr/0002). "lease" is never a node id: those begin with "node-".
SCHEDULER_LEASE_KEY: Final = "lease.scheduler"
WORKER_KEYS: Final = "*.*"

# streams
TICKETS: Final = "PENSTOCK_TICKETS"
EVENTS: Final = "PENSTOCK_EVENTS"
USAGE: Final = "PENSTOCK_USAGE"
LOGS: Final = "PENSTOCK_LOGS"
AUDIT: Final = "PENSTOCK_AUDIT"
DELIVERIES: Final = "PENSTOCK_DELIVERIES"

TICKETS_ALL: Final = f"{PREFIX}.tickets.*"
EVENTS_ALL: Final = f"{PREFIX}.events.>"
USAGE_ALL: Final = f"{PREFIX}.usage.*"
LOGS_ALL: Final = f"{PREFIX}.logs.*.*"
AUDIT_ALL: Final = f"{PREFIX}.audit.*.*"
#: Stands for callers that no key names.
AUDIT_NOBODY: Final = "nobody"
WEBHOOK_EVENTS_ALL: Final = f"{PREFIX}.webhook_events.*"
KEY_USES_ALL: Final = f"{PREFIX}.key_uses.*"
#: Of several apis one hears a report of used keys.
KEY_USES_QUEUE: Final = "penstock-api"
QUEUE_METRICS_ALL: Final = f"{PREFIX}.metrics.queue.*"

# calls of integrations, which the apis share (core NATS, request and reply)
CALLS_ALL: Final = f"{PREFIX}.api.>"
CALLS_QUEUE: Final = "penstock-api"
CALLS_READING: Final = (f"{PREFIX}.api.*.get", f"{PREFIX}.api.*.list")

_INBOX: Final = re.compile(r"_INBOX[A-Za-z0-9_-]*(\.[^.\s*>]+)+")


def inbox_prefix(user: str) -> str:
    """Where the answers to this user come; without a user, where all clients' do."""
    return f"_INBOX_{user}" if user else "_INBOX"


def is_inbox(subject: str) -> bool:
    """Whether a subject is a place for answers: nothing that a service reads or a stream takes.

    Who answers must ask: a caller may name any subject for the answer, also one to which it may not
    publish and the service may, such as a key of a bucket.
    """
    return _INBOX.fullmatch(subject) is not None


def kv_stream(bucket: str) -> str:
    """The stream behind a bucket."""
    return f"KV_{bucket}"


def kv_subject(bucket: str, key: str) -> str:
    """The subject of one key of a bucket (or of a pattern of keys)."""
    return f"$KV.{bucket}.{key}"


def worker_key(node_id: str, worker_id: str) -> str:
    """Key of a worker in `WORKERS`, `WORKER_STATUS` and `WORKER_ORDERS`."""
    return f"{node_id}.{worker_id}"


def revision_key(endpoint_id: str, revision: int | str) -> str:
    """Key of a past revision in `REVISIONS`."""
    return f"{endpoint_id}.{revision}"


def prewarm_status_key(node_id: str, prewarm_id: str) -> str:
    """Key of how a prewarm is on a node, in `PREWARM_STATUS`."""
    return f"{node_id}.{prewarm_id}"


def node_worker_keys(node_id: str) -> str:
    """Pattern of the keys of one node's workers, or of its prewarms."""
    return f"{node_id}.*"


def tickets(endpoint_id: str) -> str:
    """Where routers publish the tickets of one endpoint."""
    return f"{PREFIX}.tickets.{endpoint_id}"


def tickets_consumer(endpoint_id: str) -> str:
    """The durable consumer on `TICKETS` that hands out one endpoint's tickets in order."""
    return f"tickets-{endpoint_id}"


def key_uses(router_id: str) -> str:
    """Where this router tells with which API keys it was asked (core NATS, not stored)."""
    return f"{PREFIX}.key_uses.{router_id}"


def queue_metrics(endpoint_id: str) -> str:
    """Where routers report one endpoint's queue (core NATS, not stored)."""
    return f"{PREFIX}.metrics.queue.{endpoint_id}"


def router_grant(router_id: str) -> str:
    """A driver offers this router slots (`Grant`)."""
    return f"{PREFIX}.router.{router_id}.grant"


def router_granted(router_id: str, lease_id: str) -> str:
    """Where this driver wants the answer to an offer whose first slot has this lease; `*` = any."""
    return f"{PREFIX}.router.{router_id}.granted.{lease_id}"


def router_release(router_id: str) -> str:
    """A router tells this driver that a slot it lent is free again (`Release`)."""
    return f"{PREFIX}.router.{router_id}.release"


def router_recall(router_id: str) -> str:
    """A driver wants back what it lent this router (`Recall`)."""
    return f"{PREFIX}.router.{router_id}.recall"


def router_leases(router_id: str) -> str:
    """Once a second a router tells this driver which of its slots it holds (`HeldLeases`)."""
    return f"{PREFIX}.router.{router_id}.leases"


def router_claim(router_id: str) -> str:
    """A worker's new driver asks this router what it holds of the worker (`Claim`)."""
    return f"{PREFIX}.router.{router_id}.claim"


def router_tally(router_id: str) -> str:
    """A router tells this driver what it holds of a worker (`Tally`)."""
    return f"{PREFIX}.router.{router_id}.tally"


def router_sight(router_id: str) -> str:
    """The api asks this router to answer once its tables show a write (`Sight`)."""
    return f"{PREFIX}.router.{router_id}.sight"


def call(name: str) -> str:
    """Where an api takes one kind of call; `name` is noun and verb: endpoint.create."""
    return f"{PREFIX}.api.{name}"


def usage(worker_id: str) -> str:
    """Where the `UsageRecord` of a worker that has ended lies, once."""
    return f"{PREFIX}.usage.{worker_id}"


def events(family: str, thing: str) -> str:
    """Pattern of all events of a family about a thing; `*` = of any, about any."""
    return f"{PREFIX}.events.{family}.{thing}.>"


def endpoint_event(endpoint_id: str, verb: str) -> str:
    """Event about an endpoint; which there are: `penstock_common.events.catalogue`, as below."""
    return f"{PREFIX}.events.endpoint.{endpoint_id}.{verb}"


def scale_event(endpoint_id: str, verb: str) -> str:
    """Event about how many workers an endpoint is to have."""
    return f"{PREFIX}.events.scale.{endpoint_id}.{verb}"


def worker_event(endpoint_id: str, worker_id: str, verb: str) -> str:
    """Event about a worker of an endpoint."""
    return f"{PREFIX}.events.worker.{endpoint_id}.{worker_id}.{verb}"


def node_event(node_id: str, verb: str) -> str:
    """Event about a node."""
    return f"{PREFIX}.events.node.{node_id}.{verb}"


def logs(endpoint_id: str, worker_id: str) -> str:
    """Where node agents publish the lines of one worker (`LogBatch`); `*` = any worker."""
    return f"{PREFIX}.logs.{endpoint_id}.{worker_id}"


def audit(caller: str, audit_id: str) -> str:
    """Where the `AuditRecord` lies of what this key or join token asked for; `*` = any."""
    return f"{PREFIX}.audit.{caller}.{audit_id}"


def webhook_event(webhook_id: str) -> str:
    """In the stream EVENTS: an event for this webhook alone, a test or one to be sent again."""
    return f"{PREFIX}.webhook_events.{webhook_id}"


def webhook_consumer(webhook_id: str, epoch: int | str) -> str:
    """The durable consumer on `EVENTS` with the events that a webhook's filter wants."""
    return f"webhook-{webhook_id}-{epoch}"


def webhook_consumer_alone(webhook_id: str, epoch: int | str) -> str:
    """The durable consumer on `EVENTS` with the events for this webhook alone."""
    return f"webhook-alone-{webhook_id}-{epoch}"


def delivery(webhook_id: str, event_id: str) -> str:
    """Where the `DeliveryRecord` of an event at a webhook lies; `*` = of any event."""
    return f"{PREFIX}.deliveries.{webhook_id}.{event_id}"
