"""docs/deploy.md shows documents that can be deployed, with every field, and true exit codes."""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from penstock_cli.deployment.plans import read_sources
from penstock_cli.exits import ExitCode
from penstock_common.specs import REVISION_SECTIONS, REVISION_WORKER_FIELDS, parse_endpoint

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/deploy.md").read_text()
ENVIRONMENT = {"HF_TOKEN": "hf"}


def yaml_blocks(page: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def names(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= names(inner, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def test_the_example_has_every_field_and_can_be_deployed() -> None:
    (text,) = yaml_blocks(PAGE)
    (document,) = read_sources([("deploy.md", text)], (), ENVIRONMENT)
    spec = parse_endpoint(document.value)
    written = {place[1:].replace("/", ".") for place in document.places}
    assert not {name for name in names(type(spec)) if name not in written}


def test_the_examples_of_the_tree_can_be_deployed() -> None:
    sources = [(str(path), path.read_text()) for path in ROOT.glob("examples/*/endpoint.yaml")]
    sources += [("README.md", text) for text in yaml_blocks((ROOT / "README.md").read_text())]
    assert len(sources) == 3
    for document in read_sources(sources, (), ENVIRONMENT):
        parse_endpoint({"name": document.value["app_name"], **document.value})


def test_what_replaces_workers_stands_there() -> None:
    told = PAGE.split("whose workers replace those that run:", 1)[1].split("Everything else", 1)[0]
    named = set(re.findall(r"`([a-z_.]+)`", told))
    assert named == {*REVISION_SECTIONS, *(f"workers.{name}" for name in REVISION_WORKER_FIELDS)}


def test_its_exit_codes_are_those_of_the_command() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    assert codes == {
        ExitCode.DONE,
        ExitCode.REFUSED,
        ExitCode.USAGE,
        ExitCode.UNREACHABLE,
        ExitCode.TIMEOUT,
        ExitCode.DENIED,
        ExitCode.NOT_SERVING,
        ExitCode.WOULD_CHANGE,
    }
