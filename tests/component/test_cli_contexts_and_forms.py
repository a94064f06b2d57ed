"""Contexts, YAML, colours and completion of the command, against a real api."""

import asyncio
import contextlib
import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock_cli.input.yaml_text import parse_text
from tests.component.test_cli_commands import Penstock, penstock
from tests.support.api_server import ADMIN_KEY
from tests.support.command_inside import Outcome
from tests.support.ports import free_port

__all__ = ["penstock"]

pytestmark = [pytest.mark.nats, pytest.mark.slow]

DOCUMENT = """\
# what to deploy
app_name: echo
image: {image: acme/echo, command: 'serve on'}
gpu: {count: 0}
workers: &few
  min: 0
  max: 2
env:
  DEBUG: on   # a text, as in YAML 1.2
  AT: 22:00
"""
#: Of completion; a busy machine needs longer than a person would wait.
PATIENT = {"PENSTOCK_COMPLETION_TIMEOUT_S": "60"}


async def complete(penstock: Penstock, line: str, **env: str) -> Outcome:
    """What the shell would offer behind this line: bash's side of the protocol."""
    words = line.split(" ")
    return await penstock(
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        _PENSTOCK_COMPLETE="complete_bash",
        **{**PATIENT, **env},
    )


async def test_a_yaml_document_is_created_and_shown_as_yaml(penstock: Penstock) -> None:
    path = penstock.folder / "echo.yaml"
    path.write_text(DOCUMENT)
    made = await penstock.inside("endpoint", "create", "-f", str(path), "--yaml")
    assert (made.code, made.err) == (0, "")
    shown: dict[str, Any] = yaml.safe_load(made.out)
    document = await penstock.api.show("echo")
    assert (parse_text(made.out), list(shown)) == (document, list(document))
    assert shown["env"] == {"DEBUG": "on", "AT": "22:00"}
    listed = await penstock.inside("endpoint", "list", "--yaml")
    assert yaml.safe_load(listed.out)["endpoints"][0]["id"] == shown["id"]
    patched = await penstock.inside(
        "endpoint", "update", "echo", "-f", "-", stdin="env: {AT: null}"
    )
    assert patched.code == 0
    assert (await penstock.api.show("echo"))["env"] == {"DEBUG": "on"}
    both = await penstock.inside("endpoint", "list", "--yaml", "--json")
    assert (both.code, "not both" in both.err) == (2, True)
    twice = await penstock.inside("endpoint", "create", "-f", "-", stdin="name: a\nname: b\n")
    assert twice.code == 2
    assert "standard input, line 2, column 1: key 'name' is there twice" in twice.err


async def test_a_context_stands_for_url_and_key(penstock: Penstock) -> None:
    url = penstock.env.pop("PENSTOCK_API_URL")
    del penstock.env["PENSTOCK_API_KEY"]
    added = await penstock.inside(
        "context", "add", "lab", "--api", url, "--key-stdin", stdin=ADMIN_KEY
    )
    assert (added.code, added.err) == (0, "")
    assert "its api takes the key" in added.out
    assert (await penstock.inside("endpoint", "list", "--json")).code == 0

    # a context can be named before the command, behind it, and by the environment
    nowhere = await penstock.inside("--context", "bad", "endpoint", "list")
    assert (nowhere.code, "no context 'bad'" in nowhere.err) == (5, True)
    nearest = await penstock.inside("--context", "bad", "endpoint", "list", "--context", "lab")
    assert nearest.code == 0
    assert (await penstock.inside("endpoint", "list", PENSTOCK_CONTEXT="bad")).code == 5


async def test_a_context_is_checked_before_it_is_added(penstock: Penstock) -> None:
    url = penstock.env.pop("PENSTOCK_API_URL")
    del penstock.env["PENSTOCK_API_KEY"]
    wrong = ("context", "add", "wrong", "--api", url, "--key-stdin")
    refused = await penstock.inside(*wrong, stdin="not-a-key")
    assert (refused.code, refused.out) == (6, "")
    assert "nothing was added" in refused.err
    assert (await penstock.inside(*wrong, "--no-check", stdin="not-a-key")).code == 0
    away = f"http://127.0.0.1:{free_port()}"
    gone = await penstock.inside("context", "add", "gone", "--api", away, "--key-stdin", stdin="k")
    assert (gone.code, "--no-check" in gone.err) == (3, True)

    denied = await penstock.inside("endpoint", "list")
    assert denied.code == 6
    assert "context wrong" in denied.err


async def test_a_name_like_one_that_there_is_is_offered(penstock: Penstock) -> None:
    await penstock.api.create("echo")
    missing = await penstock.inside("endpoint", "show", "ehco")
    assert missing.code == 5
    assert "; did you mean 'echo'? `penstock endpoint list` shows" in missing.err


async def test_names_are_completed_as_the_shell_asks(penstock: Penstock) -> None:
    for app in ("echo", "embed", "llama"):
        await penstock.api.create(app)
    assert (await complete(penstock, "penstock endpoint show e")).out.split() == ["echo", "embed"]
    zsh = await penstock(
        _TYPER_COMPLETE_ARGS="penstock endpoint show ll",
        _PENSTOCK_COMPLETE="complete_zsh",
        **PATIENT,
    )
    assert '"llama":"deploying"' in zsh.out
    fish = await penstock(
        _TYPER_COMPLETE_ARGS="penstock endpoint logs ll",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        _PENSTOCK_COMPLETE="complete_fish",
        **PATIENT,
    )
    assert fish.out == "llama\tdeploying\n"


async def test_options_and_contexts_are_completed(penstock: Penstock) -> None:
    add = ("context", "add", "--no-check", "--api", penstock.api.url, "--key-env", "K")
    for name in ("prod", "plan"):
        await penstock.inside(*add, name)
    assert "--context" in (await complete(penstock, "penstock endpoint show --con")).out
    found = await complete(penstock, "penstock node list --context p")
    assert found.out.split() == ["prod", "plan"]


async def test_completion_of_what_cannot_be_asked_is_silent_and_short(penstock: Penstock) -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        deaf = f"http://127.0.0.1:{port}"
        away = f"http://127.0.0.1:{free_port()}"
        broken = penstock.folder / "broken.yaml"
        broken.write_text("contexts: [")
        for env in (
            {"PENSTOCK_API_URL": deaf, "PENSTOCK_COMPLETION_TIMEOUT_S": "0.2"},
            {"PENSTOCK_API_URL": away},
            {"PENSTOCK_CONTEXT": "x", "PENSTOCK_API_URL": "", "PENSTOCK_CONFIG": str(broken)},
        ):
            found = await complete(penstock, "penstock endpoint show e", **env)
            assert (found.out.strip(), found.err) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_shells_get_their_scripts(penstock: Penstock, shell: str) -> None:
    installed = await penstock(
        "--install-completion",
        shell,
        HOME=str(penstock.folder),
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",  # the shell is named, not looked for
    )
    assert installed.code == 0, installed.err
    scripts = [path.read_text() for path in penstock.folder.rglob("*penstock*") if path.is_file()]
    assert any("_PENSTOCK_COMPLETE=complete_" in script for script in scripts)


async def test_bash_itself_completes_with_the_script(penstock: Penstock) -> None:
    await penstock.api.create("echo")
    (penstock.folder / "completion.sh").write_text(
        (await penstock(_PENSTOCK_COMPLETE="source_bash")).out
    )
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "-c"),
        "source ./completion.sh; COMP_WORDS=(penstock endpoint show e); COMP_CWORD=3; "
        '_penstock_completion penstock; echo "${COMPREPLY[@]}"',
        stdout=asyncio.subprocess.PIPE,
        cwd=penstock.folder,
        env=penstock.env
        | PATIENT
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert out == b"echo\n"


async def test_a_narrow_terminal_gets_whole_lines_and_a_pipe_gets_all(penstock: Penstock) -> None:
    await penstock.api.create("a-rather-long-name-of-an-endpoint")
    piped = await penstock.inside("endpoint", "list")
    assert piped.out.split("\n")[0].split()[-1] == "ID"
    assert "\x1b" not in piped.out
    coloured = await penstock.inside("--color", "always", "endpoint", "list")
    assert "\x1b[" in coloured.out
    narrow = await at_terminal(penstock, "endpoint", "list")
    lines = narrow.replace("\r", "").strip().split("\n")
    assert len(lines) == 2
    assert "\x1b[" in narrow
    plain = await at_terminal(penstock, "endpoint", "list", NO_COLOR="1")
    assert "\x1b" not in plain
    header, row = plain.replace("\r", "").strip().split("\n")
    assert max(len(header), len(row)) <= 80
    assert header.split()[:3] == ["APP", "STATE", "WORKERS"]


async def at_terminal(penstock: Penstock, *arguments: str, **env: str) -> str:
    """What a command writes on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "penstock_cli", *arguments),
            stdout=theirs,
            cwd=penstock.folder,
            env={**penstock.env, "COLUMNS": "80", "LINES": "24", "TERM": "xterm", **env},
        )
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        os.close(theirs)
    return _written(ours)


def _written(ours: int) -> str:
    """All that was written on a terminal that nobody has open any more; closes our end."""
    written = b""
    try:
        with contextlib.suppress(OSError):  # which is how Linux says that it was all
            while data := os.read(ours, 65_536):
                written += data
    finally:
        os.close(ours)
    return written.decode()
