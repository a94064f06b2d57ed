"""`penstock registry` against a real api."""

import asyncio
import json
import os
import pty
import sys

import pytest

from tests.component.test_cli_commands import Penstock, penstock

__all__ = ["penstock"]

pytestmark = [pytest.mark.nats, pytest.mark.slow]

CREATE = ("registry", "create", "hub", "-u", "me")


async def test_credentials_live_their_life(penstock: Penstock) -> None:
    made = await penstock.inside(*CREATE, "--password-stdin", "--json", stdin="s3cret\n")
    assert (made.code, made.err) == (0, "")
    document = json.loads(made.out)
    assert (document["name"], document["username"]) == ("hub", "me")

    by_variable = await penstock.inside(*CREATE, PENSTOCK_REGISTRY_PASSWORD="s3cret")
    assert by_variable.code == 0
    other = by_variable.out.split()[1]
    lines = (await penstock.inside("registry", "list")).out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [document["id"], "hub", "me"],
        [other, "hub", "me"],
    ]
    shown = await penstock.inside("registry", "show", document["id"], "--json")
    assert json.loads(shown.out) == document
    assert "s3cret" not in shown.out + made.out + by_variable.out
    assert (await penstock.inside("registry", "delete", other)).out == f"deleted {other} (hub)\n"
    gone = await penstock.inside("registry", "show", other)
    assert (gone.code, other in gone.err) == (5, True)


async def test_the_password_that_was_read_is_what_is_stored(penstock: Penstock) -> None:
    # An endpoint's pull is the only place where it comes out: the api's limit shows its length.
    long = await penstock.inside(*CREATE, "--password-stdin", stdin="x" * 16_384 + "\r\n")
    assert long.code == 0
    longer = await penstock.inside(*CREATE, "--password-stdin", stdin="x" * 16_385)
    assert (longer.code, "password" in longer.err) == (1, True)


async def test_without_a_password_it_says_where_to_give_one(penstock: Penstock) -> None:
    none = await penstock.inside(*CREATE)
    assert none.code == 2
    assert "--password-stdin" in none.err
    assert "PENSTOCK_REGISTRY_PASSWORD" in none.err
    assert "holds no password" in (await penstock.inside(*CREATE, "--password-stdin")).err


async def test_at_a_terminal_it_asks_without_showing_the_answer(penstock: Penstock) -> None:
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "penstock_cli", *CREATE),
            stdin=theirs,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=penstock.folder,
            env=penstock.env,
            start_new_session=True,  # it has no other terminal than ours
        )
        # getpass throws away what was typed before it asked: answer until it has read
        told = asyncio.create_task(process.communicate())
        async with asyncio.timeout(60):
            while not told.done():
                os.write(ours, b"s3cret\n")
                await asyncio.wait({told}, timeout=0.2)
        out, err = told.result()
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0, err.decode()
    assert out.startswith(b"made ")
    assert b"s3cret" not in out + err
