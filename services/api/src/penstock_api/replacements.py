"""A whole document in the place of another: what it makes of a record, and what that changes [pure].

Theory of operation. PATCH says what to change, PUT says how it is to be: a member that the document
leaves out, or sets to null, has its default afterwards. With two exceptions: the `app_name` stays,
and so do secrets, since nobody can read them back in order to send them again. A secret goes when
the document sets it to null, or makes a plain variable of it in `env`. One that comes with the
value that it has changes nothing, so the same document sent twice is one change.
"""

from collections.abc import Callable, Container, Mapping
from datetime import datetime
from typing import Any, Final

from penstock_api.endpoint_changes import (
    Seal,
    merge_document,
    parse_document,
    refuse_deleting,
    with_spec,
)
from penstock_api.revisions import differences, shown
from penstock_client.documents import PlanDocument, PlannedChange
from penstock_common.errors import InvalidDocumentError, Problem
from penstock_common.messages import EndpointRecord
from penstock_common.specs import (
    REVISION_SECTIONS,
    REVISION_WORKER_FIELDS,
    EndpointSpec,
    ImageSpec,
)

#: (sealed value, value in the clear) → whether they are the same
Holds = Callable[[str, str], bool]

_NAMES: Final = frozenset({"name", "app_name"})


def plan_replacement(
    record: EndpointRecord,
    document: object,
    *,
    seal: Seal,
    holds: Holds,
    now: datetime,
    registry_auths: Container[str] = (),
    volumes: Container[str] = (),
) -> EndpointRecord:
    """The record with this document in the place of its own; `record` itself if nothing changes.

    `revision` grows by one exactly when what runs changes.

    Args:
        record: the endpoint now.
        document: parsed JSON of a whole endpoint document.
        seal: seals secrets' values.
        holds: tells whether a secret comes with the value that it has.
        now: the instant of the change.
        registry_auths: ids of the registry auths that exist.
        volumes: ids of the network volumes that exist.

    Raises:
        EndpointDeletingError: the endpoint is being deleted.
        InvalidDocumentError: the document is wrong; with every problem found.
        CanaryRunningError: what runs would change while a canary shares the traffic.
    """
    refuse_deleting(record)
    kept = record.spec.secrets
    whole = whole_document(document, record.spec.app_name, kept)
    spec = parse_document(whole, registry_auths, volumes, record.endpoint_id)
    brought = _brought_secrets(document)
    new = {
        name: value
        for name, value in spec.secrets.items()
        if name in brought and not (name in kept and holds(kept[name], value))
    }
    same = {name: kept[name] for name in spec.secrets if name not in new}
    secrets = {**same, **seal(new)}
    return with_spec(record, spec.model_copy(update={"secrets": secrets}), now=now)


def whole_document(
    document: object, app_name: str, kept: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The document with its names in it, without nulls, and with the secrets that it keeps.

    Args:
        document: parsed JSON.
        app_name: what the endpoint is called where the document does not say.
        kept: name → sealed value of the secrets that there are.

    Raises:
        InvalidDocumentError: it is no object.
    """
    if not isinstance(document, Mapping):
        raise InvalidDocumentError([Problem("", "must be a JSON object")])
    whole = merge_document({}, document)
    whole.setdefault("app_name", app_name)
    whole.setdefault("name", whole["app_name"])
    if isinstance(whole.setdefault("secrets", {}), Mapping):
        env = whole.get("env")
        named = _brought_secrets(document) | (env.keys() if isinstance(env, Mapping) else set())
        stay = {name: token for name, token in (kept or {}).items() if name not in named}
        whole["secrets"] = {**stay, **whole["secrets"]}
    return whole


def plan_document(before: EndpointRecord | None, after: EndpointRecord) -> PlanDocument:
    """What a replacement would change.

    Args:
        before: the endpoint now; None = there is none.
        after: as it would be.
    """
    old = before.spec.model_dump(mode="json") if before is not None else _defaults()
    new = after.spec.model_dump(mode="json")
    kept = before.spec.secrets if before is not None else {}
    changes = tuple(
        PlannedChange(
            pointer=pointer,
            before=shown(pointer, was),
            after=shown(pointer, now),
            replaces_workers=before is not None and _is_what_runs(pointer),
        )
        for pointer, was, now in differences(old, new)
    )
    return PlanDocument(
        app_name=after.spec.app_name,
        creates=before is None,
        revision=after.revision,
        replaces_workers=before is not None and after.revision != before.revision,
        changes=changes,
        secrets_kept=tuple(
            name for name in sorted(kept) if after.spec.secrets.get(name) == kept[name]
        ),
    )


def _brought_secrets(document: object) -> frozenset[str]:
    """Names of the secrets that the document sets, or takes away."""
    secrets = document.get("secrets") if isinstance(document, Mapping) else None
    return frozenset(secrets) if isinstance(secrets, Mapping) else frozenset()


def _defaults() -> dict[str, Any]:
    """A document that says nothing, as far as there are defaults."""
    nothing = EndpointSpec.model_construct(name="", app_name="", image=ImageSpec.model_construct())
    return nothing.model_dump(mode="json", exclude=set(_NAMES))


def _is_what_runs(pointer: str) -> bool:
    section, _, field = pointer[1:].partition("/")
    if section == "workers":
        return field in REVISION_WORKER_FIELDS
    return section in REVISION_SECTIONS
