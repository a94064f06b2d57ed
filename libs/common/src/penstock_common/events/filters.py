"""Which events are wanted: by endpoint, node and type [pure]."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from penstock_common import subjects
from penstock_common.events.catalogue import CATALOGUE, EventType, Ids

#: What begins every type.
_ROOT: Final = "penstock."


class UnknownTypeError(ValueError):
    """No event is of this type; the message says which there are."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Wants the events that fit all of these; the default wants every event."""

    #: id of the endpoint that they concern, its workers and its scaling included
    endpoint_id: str | None = None
    #: id of the node that they concern, the workers on it included
    node_id: str | None = None
    #: types, or beginnings of types that end with a dot; empty = any
    types: tuple[str, ...] = ()

    def wants(self, attributes: Mapping[str, str]) -> bool:
        """Whether the event with these attributes fits."""
        return (
            self.endpoint_id in (None, attributes.get("endpointid"))
            and self.node_id in (None, attributes.get("nodeid"))
            and (not self.types or any(fits(attributes["type"], t) for t in self.types))
        )

    @property
    def pattern(self) -> str:
        """The narrowest pattern of NATS subjects that every event which fits has."""
        rows = _rows(self.types)
        families = {row.family.name for row in rows}
        if len(families) > 1:
            # An endpoint's id has one place, whatever the family; events of nodes do not fit.
            return subjects.events("*", self.endpoint_id or "*")
        ids = Ids(endpoint_id=self.endpoint_id or "*", node_id=self.node_id or "*")
        if len(rows) == 1:
            return str(rows[0].family.subject(ids, rows[0].verb))
        (family,) = families
        return subjects.events(family, ids.node_id if family == "node" else ids.endpoint_id)


def check_type(text: str) -> str:
    """The text, which is an event's type or the beginning of some with a dot at its end.

    Raises:
        UnknownTypeError: it is neither.
    """
    if not _rows((text,)):
        families = sorted({f"{_ROOT}{row.family.name}." for row in CATALOGUE.values()})
        raise UnknownTypeError(
            f"no event is of the type '{text}': give one such as penstock.worker.failed, or a"
            f" beginning with its dot such as {', '.join(families)}"
        )
    return text


def _rows(types: Iterable[str]) -> list[EventType[Any]]:
    wanted = tuple(types)
    return [
        row for row in CATALOGUE.values() if not wanted or any(fits(row.name, t) for t in wanted)
    ]


def fits(name: str, wanted: str) -> bool:
    """Whether a type is this one, or one of those that begin so, with the dot at its end."""
    return name == wanted or (wanted.endswith(".") and name.startswith(wanted))
