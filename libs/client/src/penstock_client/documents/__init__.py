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
    RevisionDocument,
    RevisionList,
    RollbackRequest,
    SpecChange,
)
from penstock_client.documents.logs import (
    LogEndDocument,
    LogEntryDocument,
    LogGapDocument,
    LogLineDocument,
)
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
from penstock_client.documents.storage import (
    PrewarmDocument,
    PrewarmList,
    PrewarmProgress,
    VolumeDocument,
    VolumeList,
)
from penstock_client.documents.usage import GroupBy, UsageReport, UsageRow
from penstock_client.documents.workers import WorkerDocument, WorkerList

__all__ = [
    "ApiKeyDocument",
    "ApiKeyList",
    "ApiKeyMade",
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
    "EngineProblemDocument",
    "ErrorItem",
    "GpuDocument",
    "GroupBy",
    "HealthDocument",
    "JoinTokenDocument",
    "JoinTokenList",
    "JoinTokenMade",
    "JoinedHostDocument",
    "Load",
    "LogEndDocument",
    "LogEntryDocument",
    "LogGapDocument",
    "LogLineDocument",
    "NodeDetail",
    "NodeDocument",
    "NodeList",
    "NodeOrderDocument",
    "OpenApiDocument",
    "PrewarmDocument",
    "PrewarmList",
    "PrewarmProgress",
    "ProblemDocument",
    "RegistryAuthDocument",
    "RegistryAuthList",
    "RevisionDocument",
    "RevisionList",
    "RollbackRequest",
    "SpecChange",
    "UsageReport",
    "UsageRow",
    "VolumeDocument",
    "VolumeList",
    "WorkerDocument",
    "WorkerList",
]
