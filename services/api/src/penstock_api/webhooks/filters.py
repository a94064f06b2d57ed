"""Which events a webhook wants, decided twice [pure].

NATS is told subjects, so that it sends little that nobody wants; each event that it sends is then
looked at here, exactly. The second look also says what an edited filter means for events that
wait: one must have been wanted by every filter that stood since it was stored.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE, FAMILIES, Family, Ids
from penstock_common.events.cloud_event import CloudEvent
from penstock_common.events.filters import fits
from penstock_common.messages import EarlierFilter, WebhookFilter, WebhookRecord

#: A consumer with more subjects than this gets slow; then ids are left to the second look.
MAX_SUBJECTS: Final = 100
#: Events are kept for so long, so a filter of longer ago judges none.
_EVENTS_KEPT: Final = timedelta(days=7)
_MAX_EARLIER: Final = 20
_ANY: Final = "*"


def matches(wanted: WebhookFilter, event: CloudEvent) -> bool:
    """Whether a webhook with this filter wants the event."""
    types = wanted.event_types
    if types and not any(fits(event.type, wanted_type) for wanted_type in types):
        return False
    return not wanted.endpoints or event.attributes.get("endpointid") in wanted.endpoints


def wants(record: WebhookRecord, event: CloudEvent, stored_at: datetime) -> bool:
    """Whether the webhook wants this event, which was stored then."""
    stood_since = (item.filter for item in record.earlier if stored_at < item.until)
    return all(matches(wanted, event) for wanted in (record.filter, *stood_since))


def subjects_of(wanted: WebhookFilter) -> tuple[str, ...]:
    """NATS subjects, no two of which overlap, with all events of this filter and perhaps others.

    Empty = no event can match.
    """
    ids = wanted.endpoints or (_ANY,)
    if not wanted.event_types:
        found = _everything(ids)
    else:
        pairs = list(_verbs(wanted.event_types, about_endpoint=bool(wanted.endpoints)))
        if len(ids) * len(pairs) > MAX_SUBJECTS:
            ids = (_ANY,)
        found = [family.subject(Ids(endpoint_id=i), verb) for family, verb in pairs for i in ids]
    return tuple(sorted(set(found)))


def change_filter(record: WebhookRecord, wanted: WebhookFilter, *, at: datetime) -> WebhookRecord:
    """The webhook with another filter from `at` (by the clock of NATS) on."""
    if wanted == record.filter:
        return record
    earlier = (EarlierFilter(filter=record.filter, until=at), *record.earlier)
    kept = [item for item in earlier if at - item.until < _EVENTS_KEPT]
    return record.model_copy(update={"filter": wanted, "earlier": tuple(kept[:_MAX_EARLIER])})


def _everything(ids: Iterable[str]) -> list[str]:
    return [subjects.EVENTS_ALL if i == _ANY else subjects.events(_ANY, i) for i in ids]


def _verbs(types: Iterable[str], *, about_endpoint: bool) -> Iterable[tuple[Family[Any], str]]:
    """Family and verb of every event of these types; `*` = every verb."""
    for family in FAMILIES:
        rows = [row for row in CATALOGUE.values() if row.family is family]
        if about_endpoint and not any(_concerns_endpoints(row.family) for row in rows):
            continue
        if any(fits(f"penstock.{family.name}.", wanted) for wanted in types):
            yield family, _ANY
            continue
        for row in rows:
            if any(fits(row.name, wanted) for wanted in types):
                yield family, row.verb


def _concerns_endpoints(family: Family[Any]) -> bool:
    return "endpointid" in family.extensions(Ids())
