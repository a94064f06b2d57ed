"""What is done to endpoints, whichever API asks for it: checked, stored, told as an event."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from aiohttp import web

from penstock_api.api_keys import check_quota
from penstock_api.auth import check_owner
from penstock_api.context import Api
from penstock_api.endpoint_changes import plan_change, plan_creation, plan_deletion
from penstock_api.preconditions import ANY, IfMatch
from penstock_api.routes.route import CALLER
from penstock_api.store import Change
from penstock_api.views import endpoint_document
from penstock_client.documents import EndpointDocument
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.events.catalogue import ENDPOINT_CREATED, EventType
from penstock_common.messages import EndpointNews, EndpointRecord

#: Characters of an id's random part that tell generated `app_name`s apart: 25 bits.
_SUFFIX_LENGTH: Final = 5

Adjust = Callable[[EndpointRecord], EndpointRecord]


class Created(NamedTuple):
    """A new endpoint."""

    document: EndpointDocument
    record: EndpointRecord
    #: of the record, in KV
    revision: int


def shown(api: Api, record: EndpointRecord) -> EndpointDocument:
    """An endpoint as it is shown now."""
    status = api.store.endpoint_status.rows.get(record.endpoint_id)
    return endpoint_document(
        record,
        status.value if status else None,
        api.loads.of_endpoint(record.endpoint_id, api.clock.monotonic()),
        router_url=api.settings.router_url,
    )


def told(api: Api, change: Change, what: EventType[EndpointNews]) -> EndpointDocument:
    """The endpoint after a change, which is told as an event if there was something to change."""
    if change.changed:
        api.events.announce(what.of(EndpointNews.of(change.record)))
    return shown(api, change.record)


def own(api: Api, request: web.Request, name: str) -> str:
    """The name, which is of an endpoint that the caller may change.

    Raises:
        PenstockError: there is no such endpoint, or it is another key's.
    """
    check_owner(request[CALLER], api.store.find(name))
    return name


async def create_endpoint(
    api: Api,
    request: web.Request,
    document: object,
    *,
    endpoint_id: str,
    adjust: Adjust = lambda record: record,
) -> Created:
    """Make an endpoint of the caller's.

    Args:
        api: its parts.
        request: of the caller.
        document: parsed JSON of an endpoint document.
        endpoint_id: its id.
        adjust: what else is wanted of the new record.

    Raises:
        PenstockError: the document is wrong, the caller's quota is used up, or see
            `Store.create_endpoint`.
    """
    record = plan_creation(
        document,
        endpoint_id=endpoint_id,
        suffix=random_id(ids.ENDPOINT)[-_SUFFIX_LENGTH:],
        seal=api.sealer.seal,
        now=api.clock.utc(),
        registry_auths=api.store.registry_auths.rows,
        volumes=api.store.volumes.rows,
        owner=request[CALLER].key_id,
    )
    record = adjust(record)
    check_owners_quota(api, record)
    revision = await api.store.create_endpoint(record)
    api.events.announce(ENDPOINT_CREATED.of(EndpointNews.of(record)))
    return Created(shown(api, record), record, revision)


async def patch_endpoint(
    api: Api,
    name: str,
    patch_of: Callable[[EndpointRecord], object],
    *,
    if_match: IfMatch = ANY,
    adjust: Adjust = lambda record: record,
) -> Change:
    """Change an endpoint by a merge patch.

    Args:
        api: its parts.
        name: its id or `app_name`; see `own`.
        patch_of: the merge patch for a record; asked again after a lost race.
        if_match: which revisions in KV may be changed.
        adjust: what else is wanted of the changed record; gives the same object for nothing.

    Raises:
        PenstockError: the patch is wrong, the owner's quota is used up, or see
            `Store.change_endpoint`.
    """
    now = api.clock.utc()

    def plan(record: EndpointRecord) -> EndpointRecord:
        return patched_record(api, record, patch_of(record), now=now, adjust=adjust)

    return await api.store.change_endpoint(name, plan, if_match=if_match)


def patched_record(
    api: Api,
    record: EndpointRecord,
    patch: object,
    *,
    now: datetime,
    adjust: Adjust = lambda record: record,
) -> EndpointRecord:
    """The record with a merge patch applied, within its owner's quota; writes nothing.

    Raises:
        PenstockError: the patch is wrong, or the owner's quota is used up.
    """
    changed = plan_change(
        record,
        patch,
        seal=api.sealer.seal,
        now=now,
        registry_auths=api.store.registry_auths.rows,
        volumes=api.store.volumes.rows,
    )
    changed = adjust(changed)
    check_owners_quota(api, changed)
    return changed


async def delete_endpoint(api: Api, name: str, *, if_match: IfMatch = ANY) -> Change:
    """Mark an endpoint as deleted; see `own` and `Store.change_endpoint`."""
    now = api.clock.utc()
    return await api.store.change_endpoint(
        name, lambda record: plan_deletion(record, now=now), if_match=if_match
    )


def check_owners_quota(api: Api, record: EndpointRecord) -> None:
    """Nothing, when the owner's quota allows this record.

    Raises:
        PenstockError: it does not.
    """
    owner = api.store.api_keys.rows.get(record.owner) if record.owner is not None else None
    check_quota(record, owner.value if owner is not None else None)
