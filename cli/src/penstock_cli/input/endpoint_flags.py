"""Flags of `endpoint create` and `endpoint update` as a part of the endpoint document [pure]."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Flag → where its value goes in the document.
PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "--name": ("name",),
    "--app-name": ("app_name",),
    "--image": ("image", "image"),
    "--command": ("image", "command"),
    "--port": ("image", "http_port"),
    "--gpus": ("gpu", "count"),
    "--gpu-product": ("gpu", "products"),
    "--min": ("workers", "min"),
    "--max": ("workers", "max"),
    "--concurrency": ("workers", "max_concurrency"),
    "--idle-timeout": ("workers", "idle_timeout_s"),
    "--scale": ("scaling",),
    "--health-path": ("health", "path"),
    "--env": ("env",),
    "--secret": ("secrets",),
    "--public": ("public",),
}
_ARRAY_PLACE: Final = re.compile(r"\d+")


class FlagError(Exception):
    """A flag's value makes no sense; `flag` names it."""

    def __init__(self, flag: str, message: str) -> None:
        super().__init__(message)
        self.flag = flag


@dataclass(frozen=True, slots=True)
class EndpointFlags:
    """The flags as typed; None or empty = not given."""

    name: str | None = None
    app_name: str | None = None
    image: str | None = None
    command: str | None = None
    port: int | None = None
    gpus: int | None = None
    gpu_product: Sequence[str] = ()
    min: int | None = None
    max: int | None = None
    concurrency: int | None = None
    idle_timeout: float | None = None
    #: `queue_delay=<seconds>` or `request_count=<requests>`
    scale: str | None = None
    #: empty = no path, the port is enough
    health_path: str | None = None
    #: `NAME=value`, or `NAME` alone for the value in the caller's environment
    env: Sequence[str] = ()
    secret: Sequence[str] = ()
    public: bool | None = None

    def document(self, environment: Mapping[str, str]) -> dict[str, Any]:
        """The part of an endpoint document that these flags say.

        Args:
            environment: the caller's, for `--env NAME` and `--secret NAME`.

        Raises:
            FlagError: a value makes no sense. What the api checks is left to it.
        """
        values: dict[str, Any] = {
            "--name": self.name,
            "--app-name": self.app_name,
            "--image": self.image,
            "--command": self.command,
            "--port": self.port,
            "--gpus": self.gpus,
            "--gpu-product": list(self.gpu_product) or None,
            "--min": self.min,
            "--max": self.max,
            "--concurrency": self.concurrency,
            "--idle-timeout": self.idle_timeout,
            "--scale": _scaling(self.scale),
            "--env": _variables("--env", self.env, environment) or None,
            "--secret": _variables("--secret", self.secret, environment) or None,
            "--public": self.public,
        }
        document: dict[str, Any] = {}
        for flag, value in values.items():
            if value is not None:
                _put(document, PLACES[flag], value)
        if self.health_path is not None:
            _put(document, PLACES["--health-path"], self.health_path or None)
        return document


def overlay(document: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The document with what the flags say laid over it, object by object."""
    merged = dict(document)
    for name, value in flags.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = overlay(below, value)
        else:
            merged[name] = value
    return merged


def flag_of(pointer: str) -> str | None:
    """The flag that sets the field at this JSON pointer, if one does."""
    place = tuple(part for part in pointer.split("/")[1:] if not _ARRAY_PLACE.fullmatch(part))
    for flag, flags_place in PLACES.items():
        # `--scale`, `--env` and `--secret` set whole objects.
        if place == flags_place or (
            flag in {"--scale", "--env", "--secret"} and place[:1] == flags_place
        ):
            return flag
    return None


def _put(document: dict[str, Any], place: tuple[str, ...], value: object) -> None:
    for part in place[:-1]:
        document = document.setdefault(part, {})
    document[place[-1]] = value


def _scaling(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    kind, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        raise FlagError(
            "--scale", f"'{text}' is not like queue_delay=4 (seconds) or request_count=8"
        ) from None
    return {"type": kind, "value": int(value) if value.is_integer() else value}


def _variables(flag: str, pairs: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    variables = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name:
            raise FlagError(flag, f"'{pair}' has no name; write NAME=value")
        if not equals:
            if name not in environment:
                raise FlagError(flag, f"'{name}' is not set here; write {name}=value, or export it")
            value = environment[name]
        variables[name] = value
    return variables
