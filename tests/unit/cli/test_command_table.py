"""The table of commands says what the commands say; starting `penstock` loads none of them."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
from typer.main import get_command

from penstock_cli.app import app
from penstock_cli.command_table import COMMANDS
from penstock_cli.late_commands import Group, LateCommand, Row, load_function, make_commands


def rows(table: Mapping[str, Row | Group], *words: str) -> Iterator[tuple[str, Row]]:
    for name, entry in table.items():
        if isinstance(entry, Row):
            yield " ".join((*words, name)), entry
        else:
            yield from rows(entry.commands, *words, name)


ALL = dict(rows(COMMANDS))

#: What no `--help` of a group and no completion of a command needs.
HEAVY = frozenset(
    {
        *("aiohttp", "asyncio", "nats", "docker", "opentelemetry", "pydantic", "rich", "urllib3"),
        *("yaml", "cryptography", "penstock_autoscaler", "penstock_client", "penstock_common"),
        "penstock_cli.commands",
        "penstock_cli.local",
        "penstock_cli.simulation",
    }
)
#: What no command needs that asks the api one thing after another.
NOT_TO_ASK = HEAVY - {
    *("pydantic", "rich", "urllib3", "yaml"),
    *("penstock_client", "penstock_common", "penstock_cli.commands"),
}

#: Runs the command, then says which modules it has loaded, behind what the command wrote.
_TELLING = """
import atexit, json, sys
atexit.register(lambda: print("\\n" + json.dumps(sorted(sys.modules)), file=sys.stderr))
from penstock_cli.app import main
main()
"""


def run(*words: str, **env: str) -> tuple[str, set[str]]:
    """What the command writes to stdout, and the modules that it loads."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK")}
    done = subprocess.run(
        (sys.executable, "-c", _TELLING, *words),
        capture_output=True,
        text=True,
        env={**ours, **env},
        check=True,
    )
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


def complete(line: str) -> tuple[str, set[str]]:
    """The same for the completion of a line, as bash asks for it."""
    n_words = len(line.split(" "))
    return run(_PENSTOCK_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(n_words - 1))


@pytest.mark.parametrize("words", ALL)
def test_the_summary_is_the_first_sentence_of_the_docstring(words: str) -> None:
    row = ALL[words]
    told = " ".join((inspect.getdoc(load_function(row.function)) or "").split())
    sentence, stop, _ = told.partition(". ")
    assert row.summary == (f"{sentence}." if stop else sentence)
    assert row.summary.endswith(".")


def test_no_function_stands_behind_two_names() -> None:
    assert len({row.function for row in ALL.values()}) == len(ALL)


@pytest.mark.parametrize("words", ALL)
def test_a_loaded_command_is_as_its_row_says(words: str) -> None:
    name = words.split()[-1]
    command = LateCommand(name, ALL[words]).load()
    assert command.name == name
    assert command.context_settings["allow_interspersed_args"] is not ALL[words].passes_on
    assert "install_completion" not in {param.name for param in command.params}


def test_groups_hold_the_commands_in_the_order_of_the_table() -> None:
    made = make_commands(COMMANDS)
    assert list(made) == list(COMMANDS)
    assert list(made["node"].commands["token"].commands) == ["list", "delete"]
    assert get_command(app).commands.keys() == made.keys()  # type: ignore[attr-defined]  # a group


@pytest.mark.parametrize("words", [("--help",), ("endpoint", "--help"), ("--version",)])
def test_help_and_version_load_no_command(words: tuple[str, ...]) -> None:
    out, loaded = run(*words)
    assert out
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("penstock end", "endpoint"),
        ("penstock endpoint sh", "show"),
        ("penstock --col", "--color"),
        ("penstock node token de", "delete"),
    ],
)
def test_completing_a_command_loads_none(line: str, offered: str) -> None:
    out, loaded = complete(line)
    assert out.split() == [offered]
    assert loaded & HEAVY == set()


def test_naming_a_context_loads_nothing() -> None:
    for words, env in (
        (("--context", "prod", "endpoint", "--help"), {}),
        (("endpoint", "--help"), {"PENSTOCK_CONTEXT": "prod"}),
    ):
        _, loaded = run(*words, **env)
        assert loaded & HEAVY == set()


def test_help_tells_each_command_in_full() -> None:
    out, _ = run("--help", COLUMNS="200", TERMINAL_WIDTH="200")
    told = " ".join(out.split())
    for name, entry in COMMANDS.items():
        line = entry.summary if isinstance(entry, Row) else entry.help
        assert f"{name} {line}" in told


@pytest.mark.slow
@pytest.mark.parametrize("words", [("endpoint", "list"), ("node", "show"), ("worker", "stop")])
def test_a_command_that_asks_the_api_loads_nothing_else(words: tuple[str, ...]) -> None:
    out, loaded = run(*words, "--help")
    assert f"Usage: penstock {' '.join(words)}" in out
    assert loaded & NOT_TO_ASK == set()
    assert "penstock_client.sync.client" in loaded


@pytest.mark.slow
def test_what_is_loaded_is_seen() -> None:
    """The tests above could not fail otherwise."""
    _, loaded = run("events", "--help")
    assert {"aiohttp", "asyncio", "pydantic", "rich"} <= loaded
