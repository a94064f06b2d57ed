"""Prints what parts of Penstock need, one name a line.

    python3 deploy/third_party.py PART...            requirements from others
    python3 deploy/third_party.py --members PART...  Penstock's own packages

PART is `api`, `scheduler`, `router`, `node-agent` or `cli`. Exact versions and hashes are
requirements.lock's to say. Needs nothing but Python.
"""

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def read_members() -> dict[str, list[str]]:
    """Name of each package of the tree → what it depends on."""
    found = {}
    for pattern in ("libs/*", "services/*", "cli"):
        for file in ROOT.glob(f"{pattern}/pyproject.toml"):
            project = tomllib.loads(file.read_text())["project"]
            found[project["name"]] = project.get("dependencies", [])
    return found


def closure(parts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The members that these parts consist of, and the requirements of them all."""
    known = read_members()
    names = [f"penstock-{part}" for part in parts]
    others: set[str] = set()
    for name in names:  # grows meanwhile
        needs = known[name]
        names += [need for need in needs if need in known and need not in names]
        others |= {need for need in needs if need not in known}
    return names, sorted(others)


def main() -> None:
    """Print what the command line asks for."""
    arguments = sys.argv[1:]
    wants_members = arguments[:1] == ["--members"]
    members, others = closure(arguments[1:] if wants_members else arguments)
    print("\n".join(members if wants_members else others))


if __name__ == "__main__":
    main()
