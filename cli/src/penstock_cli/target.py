"""Which api a command talks to, and with which key."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from penstock_cli.exits import CliError

DEFAULT_URL: Final = "http://127.0.0.1:8000"
KEY_VARIABLE: Final = "PENSTOCK_API_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    """An api and a key."""

    url: str
    key: str


def find_target(api: str | None, data: Path, *, needs_key: bool = True) -> Target:
    """The api to talk to and the key to show it.

    Args:
        api: its URL, if the person named one; else the running `penstock up`'s, else the default.
        data: data directory of `penstock up`, which holds `ready.json` and `admin.key`.
        needs_key: false = an empty key when there is none.

    Raises:
        CliError: there is no key, or no usable URL.
    """
    url = api or _url_of_running(data) or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        raise CliError(f"'{url}' is no URL of an api; it begins with http:// or https://")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and (needs_key or (data / "admin.key").exists()):
        key = _key_file(data)
    return Target(url.rstrip("/"), key)


def _url_of_running(data: Path) -> str | None:
    try:
        ready = json.loads((data / "ready.json").read_text())
    except (OSError, ValueError):  # nothing runs there, or it is being written
        return None
    url = ready.get("api") if isinstance(ready, dict) else None
    return url if isinstance(url, str) else None


def _key_file(data: Path) -> str:
    path = data / "admin.key"
    try:
        key = path.read_text().strip()
    except FileNotFoundError:
        raise CliError(
            f"no API key: there is no {path}; set {KEY_VARIABLE}, "
            "or name the data directory of `penstock up` with --data"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"no API key: {path} cannot be read: {error}") from None
    if not key:
        raise CliError(f"no API key: {path} is empty")
    return key
