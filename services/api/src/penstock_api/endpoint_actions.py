"""What is done to endpoints, whichever API asks for it: checked, stored, told as an event.

Every API (`/v1` over HTTP, the calls over NATS, the dialects of other platforms) reads its
request, comes here, and writes its answer. So what may be done, and what follows from it, stands
here alone. `caller` is who asks; `name` is an endpoint's id or `app_name`.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from penstock_api.api_keys import check_quota
from penstock_api.auth import Caller, check_owner
from penstock_api.context import Api
from penstock_api.endpoint_changes import plan_change, plan_creation, plan_deletion, plan_pause
from penstock_api.paging import Page, oldest
from penstock_api.preconditions import ANY, IfMatch
from penstock_api.store import Change
from penstock_api.views import endpoint_document, shown_state
from penstock_client.documents import EndpointDocument, EndpointList
from penstock_common import ids
from penstock_common.entropy import random_id
from penstock_common.events.catalogue import (
    ENDPOINT_CREATED,
    ENDPOINT_DELETED,
    ENDPOINT_PAUSED,
    ENDPOINT_RESUMED,
    ENDPOINT_UPDATED,
    EventType,
)
from penstock_common.messages import EndpointNews, EndpointRecord

#: Characters of an id's random part that tell generated `app_name`s apart: 25 bits.
_SUFFIX_LENGTH: Final = 5

Adjust = Callable[[EndpointRecord], EndpointRecord]


class Outcome(NamedTuple):
    """An endpoint as it is now, after what was done."""

    document: EndpointDocument
    record: EndpointRecord
    #: of the record, in KV; see `preconditions.etag`
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


def told(api: Api, change: Change, what: EventType[EndpointNews]) -> Outcome:
    """The endpoint after a change, which is told as an event if there was something to change."""
    if change.changed:
        api.events.announce(what.of(EndpointNews.of(change.record)))
    return Outcome(shown(api, change.record), change.record, change.revision)


def own(api: Api, caller: Caller, name: str) -> str:
    """The name, which is of an endpoint that the caller may change.

    Raises:
        PenstockError: there is no such endpoint, or it is another key's.
    """
    check_owner(caller, api.store.find(name))
    return name


def show_endpoint(api: Api, name: str) -> Outcome:
    """The endpoint with this name.

    Raises:
        PenstockError: there is none.
    """
    row = api.store.find_row(name)
    return Outcome(shown(api, row.value), row.value, row.revision)


def list_endpoints(
    api: Api, page: Page, *, text: str = "", state: str | None = None
) -> EndpointList:
    """A page of the endpoints, the oldest first.

    Args:
        api: its parts.
        page: which part of the list.
        text: only those whose name or `app_name` holds it, in capitals or not.
        state: only those in this state.
    """
    listed, cursor = page.of(_matching(api, text.lower(), state), place)
    documents = tuple(shown(api, record) for record in listed)
    return EndpointList(endpoints=documents, next_cursor=cursor)


def place(record: EndpointRecord) -> tuple[str, ...]:
    """Of an endpoint in lists: the oldest first."""
    return oldest(record.created_at, record.endpoint_id)


def _matching(api: Api, text: str, state: str | None) -> Iterator[EndpointRecord]:
    for row in api.store.endpoints.rows.values():
        record = row.value
        if text in record.spec.name.lower() or text in record.spec.app_name:
            status = api.store.endpoint_status.rows.get(record.endpoint_id)
            if state in (None, shown_state(record, status.value if status else None)):
                yield record


async def create_endpoint(
    api: Api,
    caller: Caller,
    document: object,
    *,
    endpoint_id: str | None = None,
    adjust: Adjust = lambda record: record,
) -> Outcome:
    """Make an endpoint of the caller's.

    Args:
        api: its parts.
        caller: who asks.
        document: parsed JSON of an endpoint document.
        endpoint_id: its id; None = a new one.
        adjust: what else is wanted of the new record.

    Raises:
        PenstockError: the document is wrong, the caller's quota is used up, or see
            `Store.create_endpoint`.
    """
    record = new_record(api, caller, document, endpoint_id=endpoint_id, adjust=adjust)
    revision = await api.store.create_endpoint(record)
    api.events.announce(ENDPOINT_CREATED.of(EndpointNews.of(record)))
    return Outcome(shown(api, record), record, revision)


def new_record(
    api: Api,
    caller: Caller,
    document: object,
    *,
    endpoint_id: str | None = None,
    adjust: Adjust = lambda record: record,
) -> EndpointRecord:
    """The record of a new endpoint of the caller's, within its quota; writes nothing.

    Raises:
        PenstockError: the document is wrong, or the caller's quota is used up.
    """
    record = plan_creation(
        document,
        endpoint_id=endpoint_id or random_id(ids.ENDPOINT),
        suffix=random_id(ids.ENDPOINT)[-_SUFFIX_LENGTH:],
        seal=api.sealer.seal,
        now=api.clock.utc(),
        registry_auths=api.store.registry_auths.rows,
        volumes=api.store.volumes.rows,
        owner=caller.key_id,
    )
    record = adjust(record)
    check_owners_quota(api, record)
    return record


async def patch_endpoint(
    api: Api,
    name: str,
    patch_of: Callable[[EndpointRecord], object],
    *,
    if_match: IfMatch = ANY,
    adjust: Adjust = lambda record: record,
) -> Outcome:
    """Change an endpoint by a merge patch.

    Args:
        api: its parts.
        name: see `own`.
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

    return told(
        api, await api.store.change_endpoint(name, plan, if_match=if_match), ENDPOINT_UPDATED
    )


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


async def delete_endpoint(
    api: Api, caller: Caller, name: str, *, if_match: IfMatch = ANY
) -> Outcome:
    """Mark an endpoint as deleted; raises as `own` and `Store.change_endpoint`."""
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        own(api, caller, name), lambda record: plan_deletion(record, now=now), if_match=if_match
    )
    return told(api, change, ENDPOINT_DELETED)


async def pause_endpoint(
    api: Api, caller: Caller, name: str, paused: bool, *, if_match: IfMatch = ANY
) -> Outcome:
    """Keep an endpoint at 0 workers, or let it run again.

    Raises:
        PenstockError: as `own` and `Store.change_endpoint`; it is being deleted.
    """
    now = api.clock.utc()
    change = await api.store.change_endpoint(
        own(api, caller, name),
        lambda record: plan_pause(record, paused, now=now),
        if_match=if_match,
    )
    return told(api, change, ENDPOINT_PAUSED if paused else ENDPOINT_RESUMED)


def check_owners_quota(api: Api, record: EndpointRecord) -> None:
    """Nothing, when the owner's quota allows this record.

    Raises:
        PenstockError: it does not.
    """
    owner = api.store.api_keys.rows.get(record.owner) if record.owner is not None else None
    check_quota(record, owner.value if owner is not None else None)
