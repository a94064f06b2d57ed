"""`penstock deploy` and `penstock top` against a whole installation, in a pipe and on a terminal."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.installation import PENSTOCK, ROOT, Installation
from tests.support.terminal import on_terminal

pytestmark = [pytest.mark.nats, pytest.mark.slow]

SERVER = ROOT / "examples/openai_echo/server.py"
DOCUMENT = f"""\
# What the tests deploy.
app_name: echo
image:
  command: python3 {SERVER} ${{FLAGS}}
gpu: {{count: 0}}
workers:
  min: 1
  max: 3
  stop_grace_s: 1
secrets:
  TOKEN: ${{TOKEN}}
"""
#: Runs, and never listens.
DEAF = "python3 -c 'import time; time.sleep(600)'"
BROKEN = "sh -c 'echo no model here; exit 3'"


def environment(installation: Installation) -> dict[str, str]:
    """That of a person who has an installation, and what the document asks for."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK", "FORCE_"))}
    return {**inherited, "PENSTOCK_DATA": str(installation.data), "TOKEN": "t0ken", "FLAGS": ""}


async def penstock(
    installation: Installation, *arguments: str, stdin: str = "", **env: str
) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command in a pipe."""
    process = await asyncio.create_subprocess_exec(
        PENSTOCK,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(installation) | env,
        cwd=installation.data.parent,
    )
    async with asyncio.timeout(180):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    assert b"\x1b" not in out + err
    return process.returncode, out.decode(), err.decode()


async def test_a_file_is_deployed_changed_refused_and_rolled_back_in_a_pipe(
    tmp_path: Path,
) -> None:
    (tmp_path / "echo.yaml").write_text(DOCUMENT)
    deploy = ("deploy", "-f", "echo.yaml")
    async with Installation(tmp_path / "data", "--runtime", "process") as installation:
        code, out, _ = await penstock(installation, *deploy, "--dry-run")
        assert (code, out.splitlines()[0]) == (8, "echo: new")
        assert ["+", "secrets.TOKEN", "set"] in [line.split() for line in out.splitlines()]

        code, out, err = await penstock(installation, *deploy)
        assert code == 0, err
        assert "created echo (revision 1)" in out
        url = installation.urls["router"]
        assert out.splitlines()[-1] == f"echo serves with 1 worker: {url}/echo"
        assert "t0ken" not in out

        code, out, _ = await penstock(installation, *deploy, "--dry-run")
        assert (code, out) == (0, "echo: no changes\n")

        # Only limits: the same revision and the same workers.
        before = await installation.workers("echo")
        code, out, _ = await penstock(installation, *deploy, "--set", "workers.max=5")
        assert (code, out.splitlines()[0]) == (0, "echo: changes that its workers take as they run")
        assert "  ~ workers.max    3 → 5" in out.splitlines()
        assert [w["id"] for w in await installation.workers("echo")] == [w["id"] for w in before]

        wrong = DOCUMENT.replace("max: 3", "max: ${FLAGS}").replace("count", "cuont")
        code, _, err = await penstock(installation, "deploy", "-f", "-", stdin=wrong, FLAGS="x")
        assert code == 1
        assert "  standard input:5:7: gpu.cuont: is no known field; did you mean 'count'?" in err
        assert "  standard input:8:3: workers.max: " in err
        assert "filled in from FLAGS" in err
        code, out, err = await penstock(
            installation, *deploy, "--set", f"image.command={BROKEN}", "--wait-timeout", "120"
        )
        assert code == 7, (out, err)
        assert "  | no model here" in err
        assert "went back to revision 1" in err
        assert "runs again what ran before, with 1 worker" in err
        status, _ = await installation.get("echo", "/health")
        assert status == 200

        code, out, err = await penstock(
            installation, *deploy, "--set", f"image.command={DEAF}", "--wait-timeout", "1"
        )
        assert code == 4, (out, err)
        assert "it goes on; `penstock endpoint show echo` says how it is" in err

        code, out, _ = await penstock(installation, "top")
        assert code == 0
        assert [line.split()[0] for line in out.splitlines() if line.startswith("echo")] == ["echo"]


async def test_on_a_terminal_it_asks_shows_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "echo.yaml").write_text(DOCUMENT)
    async with Installation(tmp_path / "data", "--runtime", "process") as installation:
        env = environment(installation)
        deploy = (PENSTOCK, "deploy", "-f", "echo.yaml")

        async with on_terminal(*deploy, env=env, cwd=tmp_path) as run:
            await run.sees("Deploy echo? [y/N]")
            run.type("y\n")
            await run.sees("echo serves with 1 worker")
            assert await run.ends() == 0
            assert run.raw.rindex("\x1b[?25h") > run.raw.rindex("\x1b[?25l")  # the cursor is back

        async with on_terminal(*deploy, "--set", "workers.max=9", env=env, cwd=tmp_path) as run:
            await run.sees("Deploy echo? [y/N]")
            await installation.api("PATCH", "/v1/endpoints/echo", {"workers": {"max": 7}})
            run.type("y\n")
            await run.sees("was changed by somebody else since it was compared")
            assert await run.ends() == 1
        assert (await installation.api("GET", "/v1/endpoints/echo"))["workers"]["max"] == 7

        deaf = ("--yes", "--set", f"image.command={DEAF}")
        async with on_terminal(*deploy, *deaf, env=env, cwd=tmp_path) as run:
            await run.sees("nothing listens on port")
            run.type("\x03")
            await run.sees("'echo' goes on without you")
            assert await run.ends() == 130
            assert run.raw.rindex("\x1b[?25h") > run.raw.rindex("\x1b[?25l")
        assert (await installation.api("GET", "/v1/endpoints/echo"))["revision"] == 2

        async with on_terminal(PENSTOCK, "top", env=env, cwd=tmp_path) as run:
            await run.until(lambda: "1 node" in run.screen, "the first look")
            assert run.settings() != run.settings_before  # keys come at once
            run.type("/zz")
            await run.until(lambda: "no endpoint with 'zz'" in run.screen, "the filter")
            run.type("\x1b")
            run.resize(12, 60)
            await run.until(lambda: len(run.screen.split("\n")) == 12, "the smaller terminal")
            with installation.starting_nothing():
                os.kill(installation.child_pid("api"), signal.SIGKILL)
                await run.until(lambda: "no answer for" in run.screen, "the api's absence")
            await run.until(
                lambda: "no answer for" not in run.screen and "echo" in run.screen, "its return"
            )
            run.type("q")
            assert await run.ends() == 0
            assert run.settings() == run.settings_before
            assert run.raw.rindex("\x1b[?1049l") > run.raw.rindex("\x1b[?1049h")
