"""What the api answers: one frozen model per document, shared by the api and its clients.

The api builds its answers from these models, so the two cannot disagree. A client parses with
`Document.of`, which ignores fields of a newer api and keeps the JSON as it came in `raw`.
Units are in the names: `_s` seconds, `_ms` milliseconds, `_bytes` bytes; instants are aware UTC.
"""

from penstock_client.documents.access import (
    ApiKeyDocument,
    ApiKeyList,
    ApiKeyMade,
    JoinedHostDocument,
    JoinTokenDocument,
    JoinTokenList,
    JoinTokenMade,
    RegistryAuthDocument,
    RegistryAuthList,
)
from penstock_client.documents.audit import (
    AuditChangeDocument,
    AuditList,
    AuditRecordDocument,
    AuditTargetDocument,
)
from penstock_client.documents.base import (
    AsyncApiDocument,
    Document,
    ErrorItem,
    HealthDocument,
    OpenApiDocument,
    ProblemDocument,
)
from penstock_client.documents.endpoints import (
    CanaryDocument,
    CanaryRequest,
    DecisionList,
    EndpointDocument,
    EndpointList,
    Load,
    PlanDocument,
    PlannedChange,
    RevisionDocument,
    RevisionList,
    RollbackRequest,
    SpecChange,
)
from penstock_client.documents.events import (
    EventDocument,
    EventEndDocument,
    EventGapDocument,
    EventList,
)
from penstock_client.documents.logs import (
    LogEndDocument,
    LogEntryDocument,
    LogGapDocument,
    LogLineDocument,
)
from penstock_client.documents.metrics import EndpointMetrics, MetricsPoint
from penstock_client.documents.nodes import (
    CordonRequest,
    DrainRequest,
    EngineProblemDocument,
    GpuDocument,
    NodeDetail,
    NodeDocument,
    NodeList,
    NodeOrderDocument,
)
from penstock_client.documents.offers import (
    FieldLimits,
    LimitsDocument,
    ProductDocument,
    ProductList,
    ProductNode,
    QuotaDocument,
    RequestLimits,
)
from penstock_client.documents.storage import (
    PrewarmDocument,
    PrewarmList,
    PrewarmProgress,
    VolumeDocument,
    VolumeList,
)
from penstock_client.documents.usage import GroupBy, UsageReport, UsageRow
from penstock_client.documents.workers import (
    StopRequest,
    WorkerDocument,
    WorkerList,
    WorkerOrderDocument,
)

__all__ = [
    "ApiKeyDocument",
    "ApiKeyList",
    "ApiKeyMade",
    "AsyncApiDocument",
    "AuditChangeDocument",
    "AuditList",
    "AuditRecordDocument",
    "AuditTargetDocument",
    "CanaryDocument",
    "CanaryRequest",
    "CordonRequest",
    "DecisionList",
    "Document",
    "DrainRequest",
    "EndpointDocument",
    "EndpointList",
    "EndpointMetrics",
    "EngineProblemDocument",
    "ErrorItem",
    "EventDocument",
    "EventEndDocument",
    "EventGapDocument",
    "EventList",
    "FieldLimits",
    "GpuDocument",
    "GroupBy",
    "HealthDocument",
    "JoinTokenDocument",
    "JoinTokenList",
    "JoinTokenMade",
    "JoinedHostDocument",
    "LimitsDocument",
    "Load",
    "LogEndDocument",
    "LogEntryDocument",
    "LogGapDocument",
    "LogLineDocument",
    "MetricsPoint",
    "NodeDetail",
    "NodeDocument",
    "NodeList",
    "NodeOrderDocument",
    "OpenApiDocument",
    "PlanDocument",
    "PlannedChange",
    "PrewarmDocument",
    "PrewarmList",
    "PrewarmProgress",
    "ProblemDocument",
    "ProductDocument",
    "ProductList",
    "ProductNode",
    "QuotaDocument",
    "RegistryAuthDocument",
    "RegistryAuthList",
    "RequestLimits",
    "RevisionDocument",
    "RevisionList",
    "RollbackRequest",
    "SpecChange",
    "StopRequest",
    "UsageReport",
    "UsageRow",
    "VolumeDocument",
    "VolumeList",
    "WorkerDocument",
    "WorkerList",
    "WorkerOrderDocument",
]
