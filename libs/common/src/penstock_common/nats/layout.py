"""What of Penstock lies and travels on NATS, in one table: who writes it, who reads it, how long [pure].

`streams.py` makes the streams and buckets from it, `permissions.py` what each NATS user may
do, and docs/make_subjects.py the page docs/subjects.md; `rows.py` says what a row holds. Subjects and keys are written as forms:
`<endpoint_id>` stands for any one id.
"""

from typing import Final

from penstock_common import subjects
from penstock_common.events.catalogue import Service
from penstock_common.messages import (
    ApiKeyRecord,
    AuditRecord,
    Claim,
    DeliveryRecord,
    EndpointRecord,
    EndpointStatus,
    Grant,
    GrantReply,
    HeldLeases,
    JoinTokenRecord,
    KeyUse,
    KeyUseReport,
    LogBatch,
    NodeOrder,
    NodeRecord,
    PrewarmRecord,
    PrewarmStatus,
    QueueReport,
    Recall,
    RegistryAuthRecord,
    Release,
    RepeatRecord,
    RevisionRecord,
    RouterRecord,
    ScaleHistory,
    Sight,
    Tally,
    TemplateRecord,
    Ticket,
    UsageRecord,
    VolumeRecord,
    WebhookRecord,
    WebhookStatus,
    WorkerAssignment,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.nats.rows import Bucket, Consumer, Core, Stream

API: Final = Service.API
SCHEDULER: Final = Service.SCHEDULER
NODE_AGENT: Final = Service.NODE_AGENT
ROUTER: Final = Service.ROUTER

_MIB: Final = 1024 * 1024
_DAY_S: Final = 24 * 3600

#: So long it is known what a worker has used: a year, and a month to look back on it.
USAGE_KEPT_DAYS: Final = 400
#: So long it is known who changed what; likewise.
AUDIT_KEPT_DAYS: Final = 400
#: So long events are kept, and what became of them at webhooks.
EVENTS_KEPT_DAYS: Final = 7

BUCKETS: Final = (
    Bucket(
        subjects.ENDPOINTS,
        "<endpoint_id>",
        EndpointRecord,
        API,
        (SCHEDULER, ROUTER),
        "an endpoint: its document, revision, canary, pause, deletion",
    ),
    Bucket(
        subjects.ENDPOINT_STATUS,
        "<endpoint_id>",
        EndpointStatus,
        SCHEDULER,
        (API, ROUTER),
        "how an endpoint is: state, reason, counts, image of each revision",
    ),
    Bucket(
        subjects.REVISIONS,
        subjects.revision_key("<endpoint_id>", "<revision>"),
        RevisionRecord,
        API,
        (),
        "a past revision; the last 20 of each endpoint",
    ),
    Bucket(
        subjects.SCALE_HISTORY,
        "<endpoint_id>",
        ScaleHistory,
        SCHEDULER,
        (API,),
        "the autoscaler's last 50 decisions",
    ),
    Bucket(
        subjects.WORKERS,
        subjects.worker_key("<node_id>", "<worker_id>"),
        WorkerAssignment,
        SCHEDULER,
        (API, ROUTER, NODE_AGENT),
        "an assignment: document, GPUs, image, driver, desired state; and, under"
        f" `{subjects.SCHEDULER_LEASE_KEY}`, who leads: its revision fences the bucket",
    ),
    Bucket(
        subjects.WORKER_STATUS,
        subjects.worker_key("<node_id>", "<worker_id>"),
        WorkerStatus,
        NODE_AGENT,
        (API, SCHEDULER, ROUTER),
        "how a worker is: state, address, instants of its start, exit code",
    ),
    Bucket(
        subjects.API_KEYS,
        "<key_id>",
        ApiKeyRecord,
        API,
        (SCHEDULER, ROUTER),
        "an API key: its hash, scope, quota, expiry",
    ),
    Bucket(
        subjects.KEY_USES,
        "<key_id>",
        KeyUse,
        API,
        (),
        "when an API key was used last, to a minute or so",
    ),
    Bucket(
        subjects.JOIN_TOKENS,
        "<token_id>",
        JoinTokenRecord,
        API,
        (),
        "a join token: its hash, uses, expiry, labels",
    ),
    Bucket(
        subjects.REGISTRY_AUTHS,
        "<registry_auth_id>",
        RegistryAuthRecord,
        API,
        (NODE_AGENT,),
        "credentials of an image registry, the password sealed",
    ),
    Bucket(
        subjects.TEMPLATES,
        "<template_id>",
        TemplateRecord,
        API,
        (),
        "what several endpoints run",
    ),
    Bucket(
        subjects.VOLUMES,
        "<volume_id>",
        VolumeRecord,
        API,
        (SCHEDULER, NODE_AGENT),
        "a network volume: its name, and where the data lie",
    ),
    Bucket(
        subjects.PREWARMS,
        "<prewarm_id>",
        PrewarmRecord,
        API,
        (NODE_AGENT,),
        "an image that nodes are to have",
    ),
    Bucket(
        subjects.PREWARM_STATUS,
        subjects.prewarm_status_key("<node_id>", "<prewarm_id>"),
        PrewarmStatus,
        NODE_AGENT,
        (API,),
        "how far a node is with it: state, bytes, digest",
    ),
    Bucket(
        subjects.NODE_ORDERS,
        "<node_id>",
        NodeOrder,
        API,
        (SCHEDULER,),
        "what an operator wants of a node: cordoned, or draining; none = it takes workers",
    ),
    Bucket(
        subjects.WORKER_ORDERS,
        subjects.worker_key("<node_id>", "<worker_id>"),
        WorkerOrder,
        API,
        (SCHEDULER,),
        "an order to stop a worker; the api removes it once the worker is gone",
    ),
    Bucket(
        subjects.REPEATS,
        "<hash>",
        RepeatRecord,
        API,
        (),
        "the sealed answer to a request with an Idempotency-Key; hash of caller, target and key",
        expires_s=_DAY_S,
    ),
    Bucket(
        subjects.WEBHOOKS,
        "<webhook_id>",
        WebhookRecord,
        API,
        (),
        "a webhook: its URL, filter, sealed secrets",
    ),
    Bucket(
        subjects.WEBHOOK_STATUS,
        "<webhook_id>",
        WebhookStatus,
        API,
        (),
        "how its receiver does: the last success, since when it fails",
    ),
    Bucket(
        subjects.NODES,
        "<node_id>",
        NodeRecord,
        NODE_AGENT,
        (API, SCHEDULER),
        "a node that lives: GPUs and their health, runtime, capacity",
        storage="memory",
        expires_s=10,
    ),
    Bucket(
        subjects.ROUTERS,
        "<router_id>",
        RouterRecord,
        ROUTER,
        (API, SCHEDULER),
        "a router that lives",
        storage="memory",
        expires_s=10,
    ),
)

STREAMS: Final = (
    Stream(
        subjects.TICKETS,
        (subjects.tickets("<endpoint_id>"),),
        Ticket,
        writers=(ROUTER,),
        readers=(ROUTER,),
        meaning="requests that wait for a slot",
        storage="memory",
        retention="workqueue",
        discard="new",
        # A ticket is some 300 bytes, and one that nobody waits for any more expires.
        max_msgs=200_000,
        max_bytes=128 * _MIB,
        max_msg_bytes=16 * 1024,
        message_ttl=True,
    ),
    Stream(
        subjects.USAGE,
        (subjects.usage("<worker_id>"),),
        UsageRecord,
        writers=(SCHEDULER,),
        readers=(API,),
        meaning="what a worker that has ended has held, once",
        # A record is some 400 bytes, so this is room for two million ended workers. On a full disk
        # none is lost: the scheduler forgets a worker once its record is stored.
        max_age_s=USAGE_KEPT_DAYS * _DAY_S,
        max_bytes=1024 * _MIB,
        max_msg_bytes=16 * 1024,
        max_msgs_per_subject=1,
    ),
    Stream(
        subjects.EVENTS,
        (subjects.EVENTS_ALL, subjects.webhook_event("<webhook_id>")),
        None,
        writers=(API, SCHEDULER, NODE_AGENT),
        readers=(API,),
        meaning="what has happened, as CloudEvents 1.0 in binary mode; and, by the api, tests of"
        " webhooks and events to be sent to one again",
        max_age_s=EVENTS_KEPT_DAYS * _DAY_S,
        max_bytes=512 * _MIB,
        max_msg_bytes=256 * 1024,
    ),
    Stream(
        subjects.AUDIT,
        (subjects.audit("<caller>", "<audit_id>"),),
        AuditRecord,
        writers=(API,),
        readers=(API,),
        meaning="who asked for which change, and what came of it; what the api changes by itself",
        # A record is some 600 bytes. The api bounds each caller's records (penstock_api/audit), so
        # that one alone does not push out the others'.
        trimmed=True,
        max_age_s=AUDIT_KEPT_DAYS * _DAY_S,
        max_bytes=1024 * _MIB,
        max_msg_bytes=512 * 1024,
        # The outcome of a request takes the place of its attempt.
        max_msgs_per_subject=1,
    ),
    Stream(
        subjects.DELIVERIES,
        (subjects.delivery("<webhook_id>", "<event_id>"),),
        DeliveryRecord,
        writers=(API,),
        readers=(API,),
        meaning="what became of an event at a webhook; the last 1,000 of each",
        max_age_s=EVENTS_KEPT_DAYS * _DAY_S,
        # The api keeps each webhook's share small; this is the end for all of them together.
        trimmed=True,
        max_msgs_per_subject=1,
        max_bytes=256 * _MIB,
        max_msg_bytes=64 * 1024,
    ),
    Stream(
        subjects.LOGS,
        (subjects.logs("<endpoint_id>", "<worker_id>"),),
        LogBatch,
        writers=(NODE_AGENT,),
        # A node agent that starts anew finds in its last batch where it was.
        readers=(API, NODE_AGENT),
        meaning="lines that workers wrote, numbered",
        # Lines are no state: they are acknowledged before they are on disk.
        written_behind=True,
        trimmed=True,
        compressed=True,
        max_age_s=7 * _DAY_S,
        # A worker's batches; its bytes are bounded by its node agent.
        max_msgs_per_subject=8_192,
        max_bytes=1024 * _MIB,
        max_msg_bytes=512 * 1024,
    ),
)

CONSUMERS: Final = (
    Consumer(
        "watch-<random>",
        None,
        (API, SCHEDULER, ROUTER, NODE_AGENT),
        "ephemeral, push, without acknowledgement",
        "a watched table: first the last value of every key, then every change; gone 10 s after"
        " its listener",
    ),
    Consumer(
        subjects.tickets_consumer("<endpoint_id>"),
        subjects.TICKETS,
        (ROUTER,),
        "durable, pull, each message acknowledged within 5 s or given out again",
        "hands out one endpoint's tickets in their order; gone a day after the last pull",
    ),
    Consumer(
        subjects.webhook_consumer("<webhook_id>", "<epoch>"),
        subjects.EVENTS,
        (API,),
        "durable, pull, each message acknowledged within 31 s or given out again",
        "the events that a webhook's filter wants; deleted with the webhook",
        watched=True,
    ),
    Consumer(
        subjects.webhook_consumer_alone("<webhook_id>", "<epoch>"),
        subjects.EVENTS,
        (API,),
        "durable, pull, each message acknowledged within 31 s or given out again",
        "the events for one webhook alone; deleted with the webhook",
        watched=True,
    ),
)

CORE: Final = (
    Core(
        subjects.queue_metrics("<endpoint_id>"),
        QueueReport,
        ROUTER,
        (API, SCHEDULER),
        "one router's view of an endpoint's queue, on change and at most every 250 ms",
    ),
    Core(
        subjects.key_uses("<router_id>"),
        KeyUseReport,
        ROUTER,
        (API,),
        "the API keys with which a router was asked, each at most once a minute",
    ),
    Core(
        subjects.router_grant("<router_id>"),
        Grant,
        ROUTER,
        (ROUTER,),
        "a driver offers this router slots",
        answer=GrantReply,
        answer_subject=subjects.router_granted("<router_id>", "<lease_id>"),
    ),
    Core(
        subjects.router_release("<router_id>"),
        Release,
        ROUTER,
        (ROUTER,),
        "a slot that this driver lent is free again",
    ),
    Core(
        subjects.router_recall("<router_id>"),
        Recall,
        ROUTER,
        (ROUTER,),
        "a driver wants back what it lent this router",
    ),
    Core(
        subjects.router_leases("<router_id>"),
        HeldLeases,
        ROUTER,
        (ROUTER,),
        "once a second, which of this driver's slots a router holds",
    ),
    Core(
        subjects.router_claim("<router_id>"),
        Claim,
        ROUTER,
        (ROUTER,),
        "a worker's new driver asks this router what it holds of the worker",
    ),
    Core(
        subjects.router_tally("<router_id>"),
        Tally,
        ROUTER,
        (ROUTER,),
        "what a router holds of a worker, as an answer to a claim",
    ),
    Core(
        subjects.router_sight("<router_id>"),
        Sight,
        API,
        (ROUTER,),
        "the api waits until this router's tables show a write",
        answer="empty",
    ),
)
