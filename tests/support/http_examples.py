"""Examples of requests and their answers in a page of the docs: parsed, so that a test can play them.

An example is a fenced block of the kind `http`: a request line, header lines, a blank line and a body,
if it has any, then the answer in the same form, which begins with `HTTP/1.1`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```http\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Part:
    """A request or an answer."""

    first_line: str
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class Example:
    request: Part
    answer: Part

    @property
    def method(self) -> str:
        return self.request.first_line.split()[0]

    @property
    def path(self) -> str:
        return self.request.first_line.split()[1]

    @property
    def status(self) -> int:
        return int(self.answer.first_line.split()[1])


def examples_in(page: Path) -> list[Example]:
    """The examples of a page, in its order."""
    return [_example(block) for block in _BLOCK.findall(page.read_text())]


def _example(block: str) -> Example:
    request, marker, answer = block.partition("\nHTTP/1.1 ")
    assert marker, f"no answer in {block}"
    return Example(_part(request), _part(marker.lstrip() + answer))


def _part(text: str) -> Part:
    head, _, body = text.partition("\n\n")
    first_line, *lines = head.splitlines()
    return Part(first_line, dict(line.split(": ", 1) for line in lines), body.strip())
