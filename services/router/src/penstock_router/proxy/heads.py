"""Heads of HTTP/1 messages, read strictly: text in, a record or an `HttpError` out.

Theory of operation. A head is cut at its line ends, once. A field line that the router only passes
on is kept as it came and joins the forwarded head untouched; a line that means something to a
router (framing, routing, credentials, hop by hop) is taken out into `special`, under its name in
lower case, and whoever builds the forwarded head writes such fields anew. So nothing that the
router did not understand can frame a message, and nothing is parsed twice.

Rule 1: lines end with CR LF. A CR, LF, NUL or other control character elsewhere is an error.
Rule 2: a field's name is a token right before its colon: so no folded lines, no blank before the
        colon, no line without one.
Rule 3: a message's length is said once: one Content-Length of digits, or `chunked` alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from penstock_common.errors import PenstockError
from penstock_router.admission import Refusal

#: A message's head ends with this.
HEAD_END: Final = b"\r\n\r\n"

_LINE_END: Final = "\r\n"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
#: Anything but TAB, visible ASCII and the upper half of Latin-1 (`obs-text`).
_CONTROL: Final = re.compile(r"[^\t -~\x80-\xff]")
_VERSION_LENGTH: Final = len("HTTP/1.1")
_NO_HOST: Final = re.compile(r"[^A-Za-z0-9.\-_~!$&'()*+,;=%:\[\]]")
#: Longest `Content-Length` that is a number to us: far beyond any body.
_LENGTH_DIGITS: Final = 18
#: What the table of names does with a field; else it is the name in lower case.
_PASSES: Final = ""
_DROPPED: Final = "-"
#: Names that a table learns at most, and how long one may be.
_LEARNT_NAMES: Final = 2_048
_LEARNT_LENGTH: Final = 64

_KNOWN_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"}
)
#: Fields whose repetition is an error, since two readers could believe two of them.
_SINGLE: Final = frozenset({"authorization", "content-length", "host", "transfer-encoding"})

#: Fields that concern one connection only; never passed on, in either direction. `Expect` is among
#: them since the router answers it itself.
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
#: Of these the value matters, or the router writes the field anew.
_OF_REQUESTS: Final = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-penstock-affinity",
        "x-request-id",
    }
)
_OF_RESPONSES: Final = frozenset(
    {"connection", "content-length", "date", "server", "transfer-encoding", "upgrade"}
)
#: Set by the router alone.
_OURS_ON_RESPONSES: Final = frozenset(
    {"x-penstock-cold-start", "x-penstock-queue-ms", "x-penstock-worker", "x-request-id"}
)


class HttpError(PenstockError):
    """A peer's message cannot be understood, or is beyond a limit; its connection is to be closed."""

    error_type = "bad_request"
    status_hint = 400

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = Refusal(status, reason, detail)


def malformed(detail: str) -> HttpError:
    """The error of a message that is no HTTP."""
    return HttpError(400, "bad_request", detail)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a head may be."""

    #: longest request line, and longest field line
    line_bytes: int
    #: longest head as a whole
    head_bytes: int
    #: most field lines
    fields: int


class FieldNames:
    """What becomes of a field, by its name exactly as it was written.

    Names are learnt as they come, so that the usual spellings cost one look-up each.
    """

    def __init__(self, special: Iterable[str], dropped: Iterable[str] = ()) -> None:
        self._roles = dict.fromkeys(dropped, _DROPPED) | {name: name for name in special}
        self.known: dict[str, str] = {}

    def learn(self, name: str) -> str:
        """The role of a name that is not known yet.

        Raises:
            HttpError: it is no token.
        """
        if not _TOKEN.fullmatch(name):
            raise malformed("A header field's name is no token.")
        role = self._roles.get(name.lower(), _PASSES)
        if len(self.known) < _LEARNT_NAMES and len(name) <= _LEARNT_LENGTH:
            self.known[name] = role
        return role


REQUEST_FIELDS: Final = FieldNames(_OF_REQUESTS, HOP_BY_HOP)
RESPONSE_FIELDS: Final = FieldNames(_OF_RESPONSES, HOP_BY_HOP | _OURS_ON_RESPONSES)
#: No field that frames, routes or authorizes comes after a body.
TRAILER_FIELDS: Final = FieldNames(
    (),
    HOP_BY_HOP
    | _OF_REQUESTS
    | _OF_RESPONSES
    | _OURS_ON_RESPONSES
    | {"content-encoding", "content-range", "content-type", "cookie", "max-forwards"}
    | {"set-cookie", "trailer"},
)


# Not frozen, here and below: one is made per message, and a frozen dataclass takes three times as
# long to make.
@dataclass(slots=True)
class RequestFields:
    """The header fields of a request, and what they say of its framing.

    A connection's requests often differ in the request line only; then they share one of these.
    """

    #: HTTP version and fields, as they came
    raw: bytes
    #: false = HTTP/1.0
    http_11: bool
    #: field lines that pass as they came
    lines: list[str]
    #: values of the other fields by name in lower case
    special: dict[str, str]
    #: length of the body; None = chunked
    length: int | None
    #: whether the client's connection may carry another request
    keep_alive: bool
    #: kept by whoever builds the forwarded head, for the next request with the same fields
    forwarded: tuple[object, str] | None = None
    #: kept by whoever checks the credentials: their hash
    key_hash: str | None = None


@dataclass(slots=True)
class RequestHead:
    """A request without its body."""

    #: as it came
    raw: bytes
    method: str
    #: the request target, untouched
    target: str
    fields: RequestFields
    #: kept by whoever routes, for the next request like it on this connection
    way: object = None


@dataclass(slots=True)
class ResponseHead:
    """A response without its body."""

    #: as it came
    raw: bytes
    status: int
    #: with the blank before it
    phrase: str
    lines: list[str]
    special: dict[str, str]
    #: length of the body; None = not said
    length: int | None
    chunked: bool
    keep_alive: bool
    #: the field that says its length, with its line end; empty = not said
    length_line: str
    #: kept by whoever builds the forwarded head, for the next response like it
    forwarded: str | None = None


def read_fields(lines: list[str], names: FieldNames) -> tuple[list[str], dict[str, str]]:
    """Field lines to (those that pass, the values of the special ones).

    Raises:
        HttpError: a line is no field, or one is repeated that must not be.
    """
    known = names.known
    passing: list[str] = []
    special: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise malformed("A header line has no colon.")
        role = known.get(name)
        if role is None:
            role = names.learn(name)
        if not role:
            passing.append(line)
        elif role != _DROPPED:
            value = value.strip(" \t")
            if role in special:
                if role in _SINGLE:
                    raise malformed(f"The header field {name} is repeated.")
                value = f"{special[role]}, {value}"
            special[role] = value
    return passing, special


def connection_options(value: str | None) -> frozenset[str]:
    """The options that a `Connection` field names, in lower case."""
    if value is None:
        return frozenset()
    return frozenset(option.strip(" \t").lower() for option in value.split(",")) - {""}


def parse_request(head: bytes, limits: Limits, before: RequestHead | None = None) -> RequestHead:
    """The request whose head this is.

    Args:
        head: up to, and without, its blank line.
        limits: what is too large.
        before: an earlier request under the same limits, given again if it is the same; else its
            fields are used again if they are.

    Raises:
        HttpError: it is no request, or beyond a limit.
    """
    if before is not None and before.raw == head:
        return before
    line_end = head.find(b"\r\n")
    if line_end < 0:
        line_end = len(head)
    if line_end > limits.line_bytes:
        raise _line_too_long()
    begin = line_end - _VERSION_LENGTH
    raw = head[max(0, begin) :]
    if before is not None and before.fields.raw == raw:
        fields = before.fields
    else:
        fields = _parse_request_fields(raw, limits)
    # An HTTP version was found, so this is what is before it.
    method, blank, target = head[:begin].decode("latin-1").partition(" ")
    if target[-1:] != " " or not blank:
        raise malformed("The request line is not `method target version`.")
    target = target[:-1]
    if method not in _KNOWN_METHODS and not _TOKEN.fullmatch(method):
        raise malformed("The method is no token.")
    if not (target.isascii() and target.isprintable()) or " " in target or "#" in target:
        raise malformed("The request target has characters that must be %-escaped.")
    if not target:
        raise malformed("The request line is not `method target version`.")
    return RequestHead(head, method, target, fields)


def _parse_request_fields(raw: bytes, limits: Limits) -> RequestFields:
    lines = _cut(raw, limits)
    version = lines.pop(0)
    http_11 = version == "HTTP/1.1"
    if not http_11 and version != "HTTP/1.0":
        raise _bad_version(version)
    passing, special = read_fields(lines, REQUEST_FIELDS)
    host = special.get("host")
    if host is None:
        if http_11:
            raise HttpError(400, "missing_host", "An HTTP/1.1 request names its host.")
    elif _NO_HOST.search(host):
        raise malformed("The Host field is no host.")
    length, chunked = _read_framing(special, http_11=http_11)
    connection = special.get("connection")
    keep_alive = http_11
    if connection is not None:
        options = connection_options(connection)
        keep_alive = "close" not in options and (http_11 or "keep-alive" in options)
        passing = _without_named(passing, options)
    return RequestFields(
        raw, http_11, passing, special, None if chunked else length or 0, keep_alive
    )


def parse_response(head: bytes, limits: Limits, before: ResponseHead | None = None) -> ResponseHead:
    """The response whose head this is.

    Args:
        head: up to, and without, its blank line.
        limits: what is too large.
        before: an earlier response under the same limits, given again if it is the same.

    Raises:
        HttpError: it is no response, or beyond a limit; its status means nothing here.
    """
    if before is not None and before.raw == head:
        return before
    lines = _cut(head, limits)
    line = lines.pop(0)
    version, status, phrase = line[:9], line[9:12], line[12:]
    http_11 = version == "HTTP/1.1 "
    if not http_11 and version != "HTTP/1.0 ":
        raise malformed("The status line names no HTTP/1 version.")
    if len(status) != 3 or not (status.isascii() and status.isdigit()) or status < "100":
        raise malformed("The status is no number of three digits.")
    if phrase and phrase[0] != " ":
        raise malformed("The status is no number of three digits.")
    passing, special = read_fields(lines, RESPONSE_FIELDS)
    length, chunked = _read_framing(special, http_11=http_11)
    connection = special.get("connection")
    keep_alive = http_11
    if connection is not None:
        options = connection_options(connection)
        keep_alive = "close" not in options and (http_11 or "keep-alive" in options)
        passing = _without_named(passing, options)
    return ResponseHead(
        head,
        int(status),
        phrase or " ",
        passing,
        special,
        length,
        chunked,
        keep_alive,
        "" if length is None else f"Content-Length: {length}\r\n",
    )


def check_beginning(data: bytes) -> None:
    """Refuse a piece of a head that can belong to none, before the head is whole.

    Args:
        data: begins with a line's begin or within one; a CR before it belongs to it.

    Raises:
        HttpError: it has a control character, or a line end that is none.
    """
    text = data.decode("latin-1")
    lines = (text.removesuffix("\r")).split(_LINE_END)
    if any(map(_CONTROL.search, lines)):
        raise _control_character()


def check_size(begun: bytearray, limits: Limits) -> None:
    """Refuse the beginning of a head that is too long already.

    Raises:
        HttpError: no head that begins so is within the limits.
    """
    size = len(begun)
    if size > limits.line_bytes and begun.find(b"\r\n", 0, limits.line_bytes + 2) < 0:
        raise _line_too_long()
    if size > limits.head_bytes:
        raise _head_too_long(limits)


def _cut(head: bytes, limits: Limits) -> list[str]:
    text = head.decode("latin-1")
    lines = text.split(_LINE_END)
    if len(head) > limits.line_bytes:
        _check_lengths(lines, limits)
    if len(lines) - 1 > limits.fields:
        raise HttpError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too_many_headers",
            f"There are more than {limits.fields} header fields (max_headers).",
        )
    # Printable says it all at once; only tabs and letters beyond ASCII need the closer look.
    if not "".join(lines).isprintable() and any(map(_CONTROL.search, lines)):
        raise _control_character()
    return lines


def _check_lengths(lines: list[str], limits: Limits) -> None:
    if len(lines[0]) > limits.line_bytes:
        raise _line_too_long()
    if sum(map(len, lines)) + 2 * len(lines) > limits.head_bytes:
        raise _head_too_long(limits)
    if any(len(line) > limits.line_bytes for line in lines):
        raise HttpError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "header_too_long",
            f"A header field is longer than {limits.line_bytes} bytes (max_line_bytes).",
        )


def _line_too_long() -> HttpError:
    return HttpError(
        HTTPStatus.REQUEST_URI_TOO_LONG,
        "target_too_long",
        "The request line is too long (max_line_bytes).",
    )


def _head_too_long(limits: Limits) -> HttpError:
    return HttpError(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers_too_large",
        f"The head is longer than {limits.head_bytes} bytes (max_head_bytes).",
    )


def _control_character() -> HttpError:
    return malformed("The head has a control character, or a line that does not end with CR LF.")


def _bad_version(version: str) -> HttpError:
    if re.fullmatch(r"HTTP/[0-9]\.[0-9]", version):
        return HttpError(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
            "version_not_supported",
            "This router speaks HTTP/1.1 and HTTP/1.0.",
        )
    return malformed("The request line names no HTTP version.")


def _read_framing(special: dict[str, str], *, http_11: bool) -> tuple[int | None, bool]:
    """(Content-Length or None, whether the body is chunked)."""
    text = special.get("content-length")
    coding = special.get("transfer-encoding")
    if coding is not None:
        if text is not None:
            raise malformed("Content-Length and Transfer-Encoding exclude each other.")
        if not http_11:
            raise malformed("HTTP/1.0 has no Transfer-Encoding.")
        if coding.lower() != "chunked":
            raise malformed("Of transfer codings only `chunked`, once, can be read.")
        return None, True
    if text is None:
        return None, False
    if not (text.isascii() and text.isdigit()) or len(text) > _LENGTH_DIGITS:
        raise malformed("Content-Length is no number.")
    return int(text), False


def _without_named(lines: list[str], options: frozenset[str]) -> list[str]:
    """The lines whose name is not among the options of `Connection`."""
    if options <= {"close", "keep-alive", "upgrade"}:
        return lines
    return [line for line in lines if line.partition(":")[0].lower() not in options]
