"""Documents as programs read them: JSON or YAML on stdout, fields in the api's order."""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import typer
import yaml
from typing_extensions import override

from penstock_cli.input.yaml_text import reads_as_other
from penstock_cli.output.printing import write

#: Other ends of lines than `\n`, which PyYAML does not keep outside of double quotes.
_ODD: Final = re.compile(r"[\r\x85\u2028\u2029\ufeff]")


class Form(StrEnum):
    """What a command prints."""

    #: tables and sentences for a person
    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def form_of(*, as_json: bool, as_yaml: bool) -> Form:
    """What `--json` and `--yaml` ask for.

    Raises:
        typer.BadParameter: both are given.
    """
    if as_json and as_yaml:
        raise typer.BadParameter("give --json or --yaml, not both")
    return Form.JSON if as_json else Form.YAML if as_yaml else Form.TEXT


def print_document(document: object, form: Form) -> None:
    """A JSON value on stdout, as JSON or YAML."""
    write(json_text(document) if form is Form.JSON else yaml_text(document))


def print_streamed(document: Mapping[str, Any], form: Form) -> None:
    """One of many documents: JSON one a line, YAML each behind `---`."""
    if form is Form.JSON:
        write(json.dumps(document) + "\n")
    else:
        write("---\n" + yaml_text(document))


def json_text(document: object) -> str:
    """It as JSON, indented."""
    return json.dumps(document, indent=2) + "\n"


def yaml_text(document: object) -> str:
    """It as YAML in blocks; texts of several lines stay readable."""
    return yaml.dump(
        document,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=float("inf"),
    )


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper: no aliases, and blocks for texts of several lines."""

    @override
    def ignore_aliases(self, data: object) -> bool:
        """An anchor is nothing that a person wants to read."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if _ODD.search(text):
        style: str | None = '"'
    elif "\n" in text:
        style = "|"
    else:
        style = "'" if reads_as_other(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
