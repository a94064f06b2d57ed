"""Which endpoint a request is for, and what its worker is asked for: from target and host alone.

Pure text work on the request target as it came (RFC 9112 §3.2): nothing is decoded, so %-escapes,
dots and doubled slashes reach the worker untouched.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
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
    scheme, separator, rest = raw.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
        host, raw = rest[:cut], rest[cut:]
        if not raw.startswith("/"):
            raw = "/" + raw
    if not raw.startswith("/"):
        return None
    app_name = _app_of_host(host, domain)
    if app_name is not None:
        return Target(app_name, raw)
    end = min((i for i in (raw.find("/", 1), raw.find("?")) if i >= 0), default=len(raw))
    rest = raw[end:]
    return Target(raw[1:end] or None, rest if rest.startswith("/") else "/" + rest)


def _app_of_host(host: str, domain: str | None) -> str | None:
    if domain is None:
        return None
    name = host.rpartition("@")[2].partition(":")[0].rstrip(".").lower()
    label, _, parent = name.partition(".")
    return label if label and parent == domain.lower() else None
