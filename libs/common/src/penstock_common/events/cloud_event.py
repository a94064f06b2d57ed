"""CloudEvents 1.0: the envelope of every event, as a NATS message and as JSON [pure].

In NATS the binary content mode: each attribute is a header `ce-<name>`, the payload is the data
(NATS protocol binding, §3.1). Over HTTP the JSON format (§3). Both are read back by any SDK.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

#: Media types of the JSON format: one event, and several.
STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
JSON: Final = "application/json"

#: Of the headers that carry attributes in NATS.
HEADER_PREFIX: Final = "ce-"
#: Without these it is no event.
_REQUIRED: Final = ("specversion", "id", "source", "type")
#: Binding §3.1.3.2: all but printable ASCII, and space, quote and percent.
_ESCAPED: Final = re.compile(r"[^!#$&-~]")


class NoCloudEventError(ValueError):
    """A message that is no CloudEvent of version 1."""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event: its attributes in their canonical text form, and its data."""

    attributes: Mapping[str, str]
    data: bytes

    @classmethod
    def of_message(cls, headers: Mapping[str, str], data: bytes) -> "CloudEvent":
        """The event in a NATS message of the binary mode.

        Raises:
            NoCloudEventError: a required attribute is missing, or it is of another version.
        """
        attributes = {
            name.lower().removeprefix(HEADER_PREFIX): unquote(value, errors="strict")
            for name, value in headers.items()
            if name.lower().startswith(HEADER_PREFIX)
        }
        missing = [name for name in _REQUIRED if not attributes.get(name)]
        if missing:
            raise NoCloudEventError(f"no CloudEvent: it lacks {', '.join(missing)}")
        if attributes["specversion"] != "1.0":
            raise NoCloudEventError(f"a CloudEvent of version {attributes['specversion']}, not 1.0")
        return cls(attributes, data)

    @property
    def type(self) -> str:
        """What happened, e.g. `penstock.worker.failed`."""
        return self.attributes["type"]

    @property
    def time(self) -> datetime | None:
        """When it happened; None = it does not say."""
        text = self.attributes.get("time")
        return datetime.fromisoformat(text) if text else None

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a NATS message of the binary mode."""
        return {HEADER_PREFIX + name: _escape(value) for name, value in self.attributes.items()}

    @property
    def document(self) -> Mapping[str, Any]:
        """The event in the JSON format; data that is no JSON stands as `data_base64`."""
        try:
            return {**self.attributes, "data": json.loads(self.data)}
        except ValueError:
            return {**self.attributes, "data_base64": base64.b64encode(self.data).decode()}


def rfc3339(instant: datetime) -> str:
    """An aware instant as the text of an attribute, in UTC."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _escape(value: str) -> str:
    return _ESCAPED.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), value)
