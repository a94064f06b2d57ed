"""What a request is answered, whichever way it came [pure]."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body, each as HTTP knows it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
