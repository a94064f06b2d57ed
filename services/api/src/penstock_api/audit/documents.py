"""Records of the audit trail as the api shows them [pure]."""

from penstock_client.documents import (
    AuditChangeDocument,
    AuditRecordDocument,
    AuditTargetDocument,
)
from penstock_common.messages import AuditRecord


def record_document(record: AuditRecord) -> AuditRecordDocument:
    """The record as a document."""
    return AuditRecordDocument(
        id=record.audit_id,
        at=record.at,
        last_at=record.last_at,
        count=record.count,
        request_id=record.request_id,
        key_id=record.key_id,
        key_name=record.key_name,
        source=record.source,
        forwarded_for=record.forwarded_for,
        action=record.action,
        route=record.route,
        targets=tuple(AuditTargetDocument(**target.model_dump()) for target in record.targets),
        status=record.status,
        reason=record.reason,
        why=record.why,
        changes=tuple(AuditChangeDocument(**change.model_dump()) for change in record.changes),
        changes_left_out=record.changes_left_out,
    )
