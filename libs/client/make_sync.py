"""Makes the synchronous client of the asynchronous one, so that there is one text of both.

    .venv/bin/python libs/client/make_sync.py

What is written for an event loop is translated word by word into `penstock_client/sync/`; a test
says when that is out of date. Written twice is only what moves the bytes, `wire_async.py` and
`wire_sync.py`. The modules to translate may use `asyncio` to sleep, and for nothing else.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent / "src" / "penstock_client"
OUT: Final = ROOT / "sync"
RUFF: Final = Path(sys.executable).with_name("ruff")

#: Rules of the linter that the translation breaks and the linter mends: imports that are not used
#: or not in order, loops that only `async for` needs.
FIXED: Final = "I,F401,UP028,C416"

#: Where the translated modules are, of those below `penstock_client`.
TRANSLATED: Final = (
    "client.py",
    "transport.py",
    "following.py",
    "endpoint_caller.py",
    "calls/*.py",
)

#: Pattern → what it becomes, in this order.
WORDS: Final = (
    (
        r"\bpenstock_client\.(client|transport|following|endpoint_caller|calls)\b",
        r"penstock_client.sync.\1",
    ),
    (r"\bwire_async\b", "wire_sync"),
    (r"\bPenstockClient\b", "PenstockSyncClient"),
    (r"\bEndpointCaller\b", "EndpointSyncCaller"),
    (r"\b[Aa]n async context manager\b", "A context manager"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bimport asyncio\b", "import time"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
    (r"\bAsyncGenerator\[(.+), None\]", r"Generator[\1, None, None]"),
    (r"\bAsync(Generator|Iterator)\b", r"\1"),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bAbstractAsyncContextManager\b", "AbstractContextManager"),
    (r"\bAsyncExitStack\b", "ExitStack"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\benter_async_context\b", "enter_context"),
    (r"\baclosing\b", "closing"),
    (r"\baclose\b", "close"),
)
#: What must not be left.
LEFT: Final = re.compile(r"\b(async\w*|await|Async\w+|anext|aclose)\b")


class UntranslatableError(Exception):
    """A module uses what has no synchronous form here."""


def translate(source: str, name: str) -> str:
    """The synchronous form of a module's text, not yet in the form that the linter wants.

    Raises:
        UntranslatableError: a word is left that only an event loop understands.
    """
    text = source
    for pattern, becomes in WORDS:
        text = re.sub(pattern, becomes, text)
    for number, line in enumerate(text.splitlines(), start=1):
        if found := LEFT.search(line):
            raise UntranslatableError(f"{name}:{number}: '{found[0]}' has no synchronous form")
    return f"# Made by libs/client/make_sync.py of penstock_client/{name}: change that one.\n{text}"


def generated() -> Iterator[tuple[Path, str]]:
    """Every file of the synchronous client, and what is to stand in it."""
    for pattern in TRANSLATED:
        for source in sorted(ROOT.glob(pattern)):
            name = source.relative_to(ROOT)
            target = OUT / name
            yield target, _tidy(translate(source.read_text(), name.as_posix()), target)
    yield OUT / "__init__.py", ""


def _tidy(text: str, target: Path) -> str:
    """The text with imports in order and loops as plain as they became, formatted."""
    for command in (("check", "--fix-only", "--unsafe-fixes", f"--select={FIXED}"), ("format",)):
        arguments = (RUFF, *command, "--quiet", "--stdin-filename", str(target), "-")
        text = subprocess.run(  # noqa: S603 - the linter beside this Python
            arguments, input=text, capture_output=True, text=True, check=True
        ).stdout
    return text


def main() -> None:
    """Write them all, and remove what has no source any more."""
    files = dict(generated())
    for target, text in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for stale in set(OUT.rglob("*.py")) - set(files):
        stale.unlink()


if __name__ == "__main__":
    main()
