"""Which endpoint a request is for, and what its worker is asked for: from target and host alone.

Pure text work on the request target as it came (RFC 9112 §3.2): nothing is decoded, so %-escapes,
dots and doubled slashes reach the worker untouched.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

#: A host with its port, if any; no credentials, which dress up one host as another.
_HOST: Final = re.compile(r"[A-Za-z0-9.\-_~!$&'()*+,;=%:\[\]]+")


@dataclass(slots=True)  # not frozen: one is made per request
class Target:
    """Where a request goes."""

    #: `app_name` of the endpoint; None = the router itself is meant
    app_name: str | None
    #: path and query to ask for; begins with `/`
    path: str


def parse_target(raw: str, host: str, domain: str | None) -> Target | None:
    """Where the request with this target and `Host` goes.

    `<app>.<domain>` names an endpoint by its host, and then the whole path is the endpoint's own.
    Else the first segment of the path names it and is stripped. A target in absolute form
    (`http://host/path`) wins over `Host`.

    Args:
        raw: the request target as it came.
        host: the `Host` field; may have a port.
        domain: below which hosts name endpoints; None = no host does.

    Returns:
        None for a target that is no path (`*`, `host:port`).
    """
    if not raw.startswith("/"):
        absolute = split_absolute(raw)
        if absolute is None:
            return None
        host, raw = absolute
    if domain is not None:
        app_name = _app_of_host(host, domain)
        if app_name is not None:
            return Target(app_name, raw)
    name, slash, rest = raw[1:].partition("/")
    if "?" in name:  # the path ends before any slash
        name, _, query = raw[1:].partition("?")
        return Target(name or None, f"/?{query}")
    return Target(name or None, f"/{rest}" if slash else "/")


def split_absolute(raw: str) -> tuple[str, str] | None:
    """(host, path and query) of a target in absolute form.

    None when it is none: another scheme, or no host.
    """
    scheme, separator, rest = raw.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return None
    cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    host, path = rest[:cut], rest[cut:]
    if not _HOST.fullmatch(host):
        return None
    return host, path if path.startswith("/") else "/" + path


@lru_cache(1024)
def _app_of_host(host: str, domain: str) -> str | None:
    name = host.rpartition("@")[2].partition(":")[0].rstrip(".").lower()
    label, _, parent = name.partition(".")
    return label if label and parent == domain.lower() else None
