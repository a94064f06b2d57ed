"""Documents that a person names with `-f`: a file, or standard input."""

import sys
from pathlib import Path
from typing import Any

from penstock_cli.exits import CliError
from penstock_cli.input.yaml_text import TextError, parse_text


def read_document(source: str) -> dict[str, Any]:
    """The object in this file of JSON or YAML, or on standard input for `-`.

    Raises:
        CliError: it cannot be read, or is no JSON or YAML object.
    """
    where = "standard input" if source == "-" else source
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
    except OSError as error:
        raise CliError(f"{where} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise CliError(f"{where} cannot be read: {error}") from None
    try:
        # Who writes braces, or names a file so, means JSON: its parser's word is the better one.
        document = parse_text(text, only_json=source.endswith(".json") or _looks_like_json(text))
    except TextError as error:
        raise CliError(f"{where}, {error}") from None
    if not isinstance(document, dict):
        raise CliError(f"{where} holds no object; a document is one, with a `name: value` a line")
    return document


def _looks_like_json(text: str) -> bool:
    beginning = text.lstrip()[:1]
    return beginning in ("{", "[")
