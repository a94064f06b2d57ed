"""What a request makes of an endpoint's record: created, merged with a patch, paused, deleted.

Theory of operation. Every function takes the record as it is (or none) and gives the record as it
is to be; nothing is written here, so the store may call one again after a lost race. A function
that has nothing to change gives the very same record back: the caller then writes nothing.

Secrets. A record holds them sealed, a request brings them in the clear. A patch merges names: one
that it does not name keeps its sealed value, `null` removes it, a text replaces it. Equal values
cannot be told, as only node agents open what is sealed, so a secret that is written again counts
as changed.

Randomness comes in as arguments: `endpoint_id`, `suffix` and what `seal` draws inside.
"""

import re
import shlex
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Final

from typing_extensions import override

from penstock_api.canaries import refuse_canary
from penstock_common.errors import InvalidDocumentError, PenstockError, Problem
from penstock_common.messages import EndpointRecord
from penstock_common.specs import EndpointSpec, changes_what_runs, parse_endpoint

Seal = Callable[[Mapping[str, str]], Mapping[str, str]]

#: Fields of the answer that no request may set.
READ_ONLY: Final = frozenset(
    {
        "id",
        "owner",
        "url",
        "state",
        "reason",
        "message",
        "revision",
        "failed_revision",
        "canary",
        "image_digest",
        "workers_running",
        "workers_starting",
        "workers_draining",
        "workers_desired",
        "load",
        "created_at",
        "updated_at",
        "deleted_at",
        "retry_at",
        "exit_code",
        "log_tail",
    }
)

#: Room for `-<suffix>` within a DNS label of 63, and short enough to read.
_MAX_BASE: Final = 40
#: Words of a command line that say nothing about what it serves.
_LAUNCHERS: Final = frozenset(
    {"bash", "env", "exec", "node", "nohup", "python", "python3", "run", "sh", "uv"}
)
_SCRIPT_SUFFIXES: Final = (".py", ".sh", ".js")
#: How the id of an endpoint looks.
ENDPOINT_ID: Final = re.compile(r"ep-[0-9a-z]{13}")


class EndpointDeletingError(PenstockError):
    """The endpoint is being deleted; make a new one."""

    error_type: ClassVar[str] = "endpoint_deleting"
    status_hint: ClassVar[int] = 409


class AppNameTakenError(PenstockError):
    """Another endpoint has this app_name."""

    error_type: ClassVar[str] = "app_name_taken"
    status_hint: ClassVar[int] = 409

    @override
    def __init__(self, app_name: str) -> None:
        super().__init__(
            f"app_name '{app_name}' belongs to another endpoint; choose another one, or leave it "
            "out to have one made (one that is being deleted is free once its workers are gone)"
        )


def merge_patch(target: object, patch: object) -> object:
    """`target` with a JSON merge patch applied (RFC 7396 §2); neither argument is changed."""
    return merge_object(target, patch) if isinstance(patch, Mapping) else patch


def merge_object(target: object, patch: Mapping[str, Any]) -> dict[str, Any]:
    """`merge_patch` for a patch that is an object, which always gives one."""
    merged: dict[str, Any] = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def merge_document(target: object, patch: Mapping[str, Any]) -> dict[str, Any]:
    """An endpoint document with a merge patch applied, in which `health.path` may become null."""
    merged = merge_object(target, patch)
    health = patch.get("health")
    if isinstance(health, Mapping) and "path" in health and health["path"] is None:
        merged["health"]["path"] = None
    return merged


def plan_creation(
    document: object,
    *,
    endpoint_id: str,
    suffix: str,
    seal: Seal,
    now: datetime,
    registry_auths: Container[str] = (),
    volumes: Container[str] = (),
    owner: str | None = None,
) -> EndpointRecord:
    """The record of a new endpoint.

    Args:
        document: parsed JSON; `name` and `app_name` may be missing or null.
        endpoint_id: its id.
        suffix: lower-case letters and digits that make a generated `app_name` unique.
        seal: seals secrets' values.
        now: the instant of creation.
        registry_auths: ids of the registry auths that exist.
        volumes: ids of the network volumes that exist.
        owner: id of the API key that it belongs to.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    if not isinstance(document, Mapping):
        raise InvalidDocumentError([Problem("", "must be a JSON object")])
    spec = parse_document(_with_names(document, suffix), registry_auths, volumes, endpoint_id)
    return EndpointRecord(
        endpoint_id=endpoint_id,
        owner=owner,
        spec=spec.model_copy(update={"secrets": dict(seal(spec.secrets))}),
        revision=1,
        created_at=now,
        updated_at=now,
    )


def plan_change(
    record: EndpointRecord,
    patch: object,
    *,
    seal: Seal,
    now: datetime,
    registry_auths: Container[str] = (),
    volumes: Container[str] = (),
) -> EndpointRecord:
    """The record with a merge patch applied; `record` itself when that changes nothing.

    `revision` grows by one exactly when what runs changes. One departure from RFC 7396, as null is
    a value of `health.path` ("no path, the port is enough"): a null there sets it, while anywhere
    else null takes the member away, which brings its default back.

    Raises:
        EndpointDeletingError: the endpoint is being deleted.
        InvalidDocumentError: the merged document is wrong; with every problem found.
        CanaryRunningError: what runs would change while a canary shares the traffic.
    """
    refuse_deleting(record)
    if not isinstance(patch, Mapping):
        raise InvalidDocumentError([Problem("", "must be a JSON object (a merge patch)")])
    merged = merge_document(record.spec.model_dump(mode="json"), patch)
    spec = parse_document(merged, registry_auths, volumes, record.endpoint_id)
    written = _written_secrets(patch)
    sealed = seal({name: value for name, value in spec.secrets.items() if name in written})
    spec = spec.model_copy(update={"secrets": {**spec.secrets, **sealed}})
    return with_spec(record, spec, now=now)


def with_spec(record: EndpointRecord, spec: EndpointSpec, *, now: datetime) -> EndpointRecord:
    """The record with this spec, its secrets sealed; `record` itself when it has it already.

    Raises:
        CanaryRunningError: what runs would change while a canary shares the traffic.
    """
    if spec == record.spec:
        return record
    changed: dict[str, Any] = {"spec": spec, "updated_at": now}
    if changes_what_runs(record.spec, spec):
        refuse_canary(record)
        changed |= {
            "revision": record.revision + 1,
            "revision_cause": "updated",
            "revision_why": None,
            "revised_at": now,
            "same_as": (),
        }
    return record.model_copy(update=changed)


def plan_pause(record: EndpointRecord, paused: bool, *, now: datetime) -> EndpointRecord:
    """The record paused or resumed; `record` itself when it is so already.

    Raises:
        EndpointDeletingError: the endpoint is being deleted.
    """
    refuse_deleting(record)
    if record.paused == paused:
        return record
    return record.model_copy(update={"paused": paused, "updated_at": now})


def plan_deletion(record: EndpointRecord, *, now: datetime) -> EndpointRecord:
    """The record marked as deleted; `record` itself when it is so already."""
    if record.deleted_at is not None:
        return record
    return record.model_copy(update={"deleted_at": now, "updated_at": now})


def check_app_name_free(record: EndpointRecord, others: Iterable[EndpointRecord]) -> None:
    """Nothing, when no other endpoint (one being deleted included) has this `app_name`.

    Raises:
        AppNameTakenError: one has.
    """
    for other in others:
        if other.endpoint_id != record.endpoint_id and other.spec.app_name == record.spec.app_name:
            raise AppNameTakenError(record.spec.app_name)


def app_name_base(document: Mapping[str, Any]) -> str:
    """What a generated `app_name` begins with: the image's or the command's own name.

    Gives a DNS label of at most 40 characters for any document, also a wrong one.
    """
    image = document.get("image")
    if not isinstance(image, Mapping):
        return "endpoint"
    reference, command = image.get("image"), image.get("command")
    if isinstance(reference, str) and reference:
        name = reference.split("@", 1)[0].rsplit("/", 1)[-1].split(":", 1)[0]
    elif isinstance(command, str):
        name = _program(command)
    else:
        name = ""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_MAX_BASE].strip("-")
    return label or "endpoint"


def _program(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote; the document's own check says so
        return ""
    for word in words:
        name = word.rsplit("/", 1)[-1]
        if not word.startswith("-") and "=" not in word and name not in _LAUNCHERS:
            for suffix in _SCRIPT_SUFFIXES:
                name = name.removesuffix(suffix)
            return name
    return ""


def _with_names(document: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    completed = dict(document)
    if completed.get("app_name") is None:
        completed["app_name"] = f"{app_name_base(document)}-{suffix}"
    if completed.get("name") is None:
        completed["name"] = completed["app_name"]
    return completed


def parse_document(
    document: Mapping[str, Any],
    registry_auths: Container[str],
    volumes: Container[str],
    endpoint_id: str,
) -> EndpointSpec:
    """The spec in a whole document, what it refers to checked as well.

    Args:
        document: parsed JSON with both names.
        registry_auths: ids of the registry auths that exist.
        volumes: ids of the network volumes that exist.
        endpoint_id: of the endpoint, which alone may have it for its `app_name`.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    problems = _beyond_this_version(document, registry_auths, volumes, endpoint_id)
    try:
        spec = parse_endpoint(document)
    except InvalidDocumentError as error:
        plainer = [_plainer(problem, document) for problem in error.problems]
        raise InvalidDocumentError([*plainer, *problems]) from None
    if problems:
        raise InvalidDocumentError(problems)
    return spec


def _plainer(problem: Problem, document: Mapping[str, Any]) -> Problem:
    """The problem, in words for one who sent back what the api answered."""
    if problem.pointer[1:] in READ_ONLY:
        return Problem(problem.pointer, "is read-only; leave it out")
    if problem.pointer == "/secrets" and isinstance(document["secrets"], list):
        return Problem(
            problem.pointer,
            "takes an object of names and values; the list of names is what answers show, "
            "leave it out to keep the secrets",
        )
    return problem


def _beyond_this_version(
    document: Mapping[str, Any],
    registry_auths: Container[str],
    known_volumes: Container[str],
    endpoint_id: str,
) -> list[Problem]:
    """Problems that the document's form cannot show: what it refers to does not exist."""
    problems = []
    image, storage = document.get("image"), document.get("storage")
    auth_id = image.get("registry_auth_id") if isinstance(image, Mapping) else None
    if isinstance(auth_id, str) and auth_id not in registry_auths:
        told = "no such registry auth; make it first, or use null"
        problems.append(Problem("/image/registry_auth_id", told))
    volumes = storage.get("volumes") if isinstance(storage, Mapping) else None
    if isinstance(volumes, list):
        problems += [
            Problem(
                f"/storage/volumes/{place}/id",
                "no such network volume; see `penstock volume list`, or make it first",
            )
            for place, volume in enumerate(volumes)
            if isinstance(volume, Mapping)
            and volume.get("type") == "network"
            and isinstance(volume.get("id"), str)
            and volume["id"] not in known_volumes
        ]
    app_name = document.get("app_name")
    if app_name != endpoint_id and isinstance(app_name, str) and ENDPOINT_ID.fullmatch(app_name):
        problems.append(
            Problem(
                "/app_name", "looks like another endpoint's id, which URLs take as well; change it"
            )
        )
    return problems


def _written_secrets(patch: Mapping[str, Any]) -> frozenset[str]:
    secrets = patch.get("secrets")
    if not isinstance(secrets, Mapping):
        return frozenset()
    return frozenset(name for name, value in secrets.items() if value is not None)


def refuse_deleting(record: EndpointRecord) -> None:
    """Nothing, when the endpoint may change.

    Raises:
        EndpointDeletingError: it is being deleted.
    """
    if record.deleted_at is not None:
        raise EndpointDeletingError
