"""The examples of docs/client.md, each run as it stands there, in their order."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.support.installation import ROOT, Installation, eventually

pytestmark = [pytest.mark.slow, pytest.mark.nats]

PAGE = (ROOT / "docs/client.md").read_text()
EXAMPLES = re.findall(r"## (.+?)\n|```python\n(.+?)```", PAGE, re.DOTALL)
ECHO = f"{sys.executable} {ROOT}/examples/openai_echo/server.py"

#: Section → what its examples print, one pattern each.
PRINTED = {
    "First steps": (
        r"echo serving http://\S+/echo\n\S+ ready\n",
        r"echo 3 3\nep-\w+ serving\n",
    ),
    "Retries": (r"serving\nserving\n", r"True\n"),
    "Changes of what you have seen": (r"4\n",),
    "Calling endpoints": (r"200 You said: hello\nwk-\w+ \d+\.\d+ True\n(\{.+\}\n){4}\[DONE\]\n",),
    "Streams": (r"(.+ wk-\w+ .*\n)+end: caught_up\n",),
    "Waiting": (r"gone\n",),
    "Errors": (
        r"422 invalid_document\n/app_name .+\n/image .+\nEndpointClosedError paused 60\.0\n",
    ),
}


def examples() -> list[tuple[str, str]]:
    """(section, code) of each example."""
    found, section = [], ""
    for heading, code in EXAMPLES:
        section = heading or section
        if code:
            found.append((section, code))
    return found


#: Runs the examples of its input one after the other, as a reader would in one session.
RUNNER = """
import json, sys
for code in json.load(sys.stdin):
    exec(compile(code, "<example>", "exec"), {"__name__": "__main__"})
    print(end="\\x00", flush=True)
"""


async def run(codes: list[str], env: dict[str, str]) -> list[str]:
    """What each example prints, where every warning is an error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", RUNNER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **env},
    )
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate(json.dumps(codes).encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert (process.returncode, err.decode()) == (0, ""), out.decode()
    return out.decode().split("\0")[:-1]


async def test_every_example_does_what_the_page_says(tmp_path: Path) -> None:
    found = examples()
    assert [section for section, _ in found] == [
        section for section, patterns in PRINTED.items() for _ in patterns
    ]
    patterns = [pattern for patterns in PRINTED.values() for pattern in patterns]
    async with Installation(
        tmp_path / "data", "--runtime", "process", "--gpus", "none"
    ) as penstock:
        env = {
            "PENSTOCK_API_URL": penstock.urls["api"],
            "PENSTOCK_API_KEY": penstock.key,
            "ECHO_COMMAND": ECHO,
        }
        codes = [code for _, code in found]
        streams = [section for section, _ in found].index("Streams")
        printed = await run(codes[:streams], env)

        async def said_something() -> bool:
            path = f"{penstock.urls['api']}/v1/endpoints/echo/logs"
            async with penstock.session.get(path, headers={"Accept": "text/plain"}) as answer:
                return bool(await answer.text())

        await eventually(said_something, "lines of the worker are stored")
        printed += await run(codes[streams:], env)
    for (section, _), pattern, text in zip(found, patterns, printed, strict=True):
        assert re.fullmatch(pattern, text), f"{section}: {text}"
