"""Wire types: everything that travels over NATS or lies in it, as versioned pydantic models.

Unknown fields are ignored, so that a newer service can talk to an older one. Instants are aware
UTC; durations are seconds. A record's one writer is named in its docstring.
"""

from penstock_common.messages.access import (
    ApiKeyRecord,
    JoinedHost,
    JoinTokenRecord,
    KeyScope,
    RegistryAuthRecord,
    RepeatRecord,
)
from penstock_common.messages.audit import AuditChange, AuditRecord, AuditTarget
from penstock_common.messages.base import Message
from penstock_common.messages.endpoints import (
    Canary,
    EndpointRecord,
    EndpointStatus,
    RevisionCause,
    RevisionRecord,
    ScaleDecision,
    ScaleHistory,
    ScaleInputs,
)
from penstock_common.messages.events import (
    EndpointNews,
    GpuNews,
    ImageRemoved,
    NodeDrained,
    NodeLost,
    NodeOrdered,
    ScaleDecided,
    WorkerAssigned,
)
from penstock_common.messages.logs import GapReason, LogBatch, LogGap, LogLine, OutputName
from penstock_common.messages.node_orders import NodeOrder
from penstock_common.messages.nodes import (
    EngineProblem,
    Gpu,
    GpuReading,
    NodeRecord,
    RouterRecord,
    RuntimeKind,
)
from penstock_common.messages.queue import QueueReport, Ticket, WorkerLoad
from penstock_common.messages.sight import Sight
from penstock_common.messages.slots import (
    Claim,
    Grant,
    GrantReply,
    HeldLeases,
    LentSlot,
    Recall,
    Release,
    Tally,
)
from penstock_common.messages.storage import (
    PrewarmRecord,
    PrewarmState,
    PrewarmStatus,
    VolumeRecord,
)
from penstock_common.messages.templates import TemplateRecord
from penstock_common.messages.usage import UsageRecord
from penstock_common.messages.webhooks import (
    Attempt,
    DeliveryRecord,
    DeliveryState,
    EarlierFilter,
    WebhookFilter,
    WebhookRecord,
    WebhookStatus,
)
from penstock_common.messages.worker_orders import WorkerOrder
from penstock_common.messages.workers import HealthProblem, WorkerAssignment, WorkerStatus

__all__ = [
    "ApiKeyRecord",
    "Attempt",
    "AuditChange",
    "AuditRecord",
    "AuditTarget",
    "Canary",
    "Claim",
    "DeliveryRecord",
    "DeliveryState",
    "EarlierFilter",
    "EndpointNews",
    "EndpointRecord",
    "EndpointStatus",
    "EngineProblem",
    "GapReason",
    "Gpu",
    "GpuNews",
    "GpuReading",
    "Grant",
    "GrantReply",
    "HealthProblem",
    "HeldLeases",
    "ImageRemoved",
    "JoinTokenRecord",
    "JoinedHost",
    "KeyScope",
    "LentSlot",
    "LogBatch",
    "LogGap",
    "LogLine",
    "Message",
    "NodeDrained",
    "NodeLost",
    "NodeOrder",
    "NodeOrdered",
    "NodeRecord",
    "OutputName",
    "PrewarmRecord",
    "PrewarmState",
    "PrewarmStatus",
    "QueueReport",
    "Recall",
    "RegistryAuthRecord",
    "Release",
    "RepeatRecord",
    "RevisionCause",
    "RevisionRecord",
    "RouterRecord",
    "RuntimeKind",
    "ScaleDecided",
    "ScaleDecision",
    "ScaleHistory",
    "ScaleInputs",
    "Sight",
    "Tally",
    "TemplateRecord",
    "Ticket",
    "UsageRecord",
    "VolumeRecord",
    "WebhookFilter",
    "WebhookRecord",
    "WebhookStatus",
    "WorkerAssigned",
    "WorkerAssignment",
    "WorkerLoad",
    "WorkerOrder",
    "WorkerStatus",
]
