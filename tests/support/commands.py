"""The `penstock` command as a process, pointed at an api."""

import asyncio
import os
import signal
import sys

from tests.support.api_server import ADMIN_KEY, ApiServer


async def command(api: ApiServer, *arguments: str) -> asyncio.subprocess.Process:
    """The command, started."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK", "FORCE_"))}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "penstock_cli",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=env | {"PENSTOCK_API_URL": api.url, "PENSTOCK_API_KEY": ADMIN_KEY},
        preexec_fn=_listen_to_ctrl_c,
    )


def _listen_to_ctrl_c() -> None:
    """What a shell starts in the background ignores it, and so does what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def run(api: ApiServer, *arguments: str) -> tuple[int, str, str]:
    """The command, ended: its exit code, stdout and stderr."""
    process = await command(api, *arguments)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
