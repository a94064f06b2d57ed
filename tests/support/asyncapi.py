"""Reads the api's AsyncAPI document as its users' tools would."""

from collections.abc import Mapping
from typing import Any

import jsonschema_rs


def validator(document: Mapping[str, Any], message: str, part: str) -> Any:
    """Of one message's `payload` or `headers`: has `validate` and `is_valid`."""
    schema = document["components"]["messages"][message][part]
    return jsonschema_rs.validator_for({**schema, "components": document["components"]})
