"""Events as somebody else reads them: with the CloudEvents project's own SDK."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary
from cloudevents.core.formats.json import JSONFormat

from penstock_common.events.catalogue import CATALOGUE, EventType
from penstock_common.messages import Message
from penstock_common.nats.connection import Received


def read_message(message: Received) -> tuple[EventType[Any], Message]:
    """The row of the catalogue and the data of an event from NATS; checks everything about it.

    The SDK has no NATS binding of its own: as in HTTP's the attributes are `ce-` headers with the
    same percent-encoding, and only the content type goes elsewhere.
    """
    assert "content-type" not in {name.lower() for name in message.headers}
    event = from_binary(HTTPMessage(dict(message.headers), message.data), JSONFormat())
    row, data = _check(event)
    assert message.subject == row.of(data).subject
    assert message.headers["Nats-Msg-Id"] == event.get_id()
    return row, data


def read_json(text: str | bytes | Mapping[str, Any]) -> tuple[EventType[Any], Message]:
    """The same of an event in the JSON format."""
    document = json.dumps(text) if isinstance(text, Mapping) else text
    return _check(JSONFormat().read(None, document))


def _check(event: BaseCloudEvent) -> tuple[EventType[Any], Message]:
    # The SDK refuses what lacks a required attribute, or has one with a wrong name or value.
    attributes = event.get_attributes()
    row = CATALOGUE[event.get_type()]
    payload = event.get_data()
    assert isinstance(payload, dict)
    data: Message = row.data.model_validate(payload)
    told = row.of(data)
    source = f"/penstock/{row.publisher}"
    assert event.get_specversion() == "1.0"
    assert event.get_id()
    assert event.get_source() == source or event.get_source().startswith(f"{source}/")
    assert event.get_subject() == told.about
    assert event.get_datacontenttype() == "application/json"
    time = event.get_time()
    assert isinstance(time, datetime)
    assert time.tzinfo is not None
    known = {"specversion", "id", "source", "type", "subject", "time", "datacontenttype"}
    extensions = {k: v for k, v in attributes.items() if k not in known}
    assert extensions == told.extensions
    return row, data
