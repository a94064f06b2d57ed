"""TLS towards NATS: what is trusted, and what went wrong, in words that name the setting.

A `tls://` URL means: encrypted, or not at all. The server's certificate must be signed by a trusted
CA and carry the name or address that the URL has, before a password is sent.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from penstock_common.lifecycle import MisconfiguredError
from penstock_common.settings import NatsSettings

#: OpenSSL's codes for a certificate that carries another name, or another address.
_OTHER_NAME: Final = frozenset({62, 64})


class TlsMismatchError(OSError):
    """Settings and server do not agree on whether, and with what, a connection is encrypted."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are encrypted."""

    context: ssl.SSLContext
    #: this client can show a certificate
    own_certificate: bool


def is_tls(url: str) -> bool:
    """Whether this URL asks for an encrypted connection."""
    return url.startswith("tls://")


def tls_of(settings: NatsSettings, urls: list[str]) -> Tls | None:
    """How connections to these servers are encrypted; None = none of them is.

    Raises:
        MisconfiguredError: a certificate or key cannot be used, or would go unused.
    """
    given = {
        "nats_tls_ca_file": bool(settings.nats_tls_ca),
        "nats_tls_cert_file": settings.nats_tls_cert_file is not None,
        "nats_tls_key_file": settings.nats_tls_key_file is not None,
    }
    for name, is_set in given.items():
        if is_set and not all(map(is_tls, urls)):
            raise MisconfiguredError(f"{name} is set, so every address in nats_url must be tls://")
    if not any(map(is_tls, urls)):
        return None
    try:
        context = ssl.create_default_context(cadata=settings.nats_tls_ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise MisconfiguredError(
            f"nats_tls_ca_file holds no certificates in PEM ({_reason(error)})"
        ) from None
    _load_own(context, settings)
    return Tls(context, settings.nats_tls_cert_file is not None)


def _load_own(context: ssl.SSLContext, settings: NatsSettings) -> None:
    certificate, key = settings.nats_tls_cert_file, settings.nats_tls_key_file
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise MisconfiguredError("set nats_tls_cert_file and nats_tls_key_file, or neither")
    for name, file in (("nats_tls_cert_file", certificate), ("nats_tls_key_file", key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise MisconfiguredError(f"{name} cannot be read: {error}") from None
    try:
        # An empty password, or OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise MisconfiguredError(
            "nats_tls_cert_file and nats_tls_key_file must be a certificate and its key in PEM, "
            f"the key without a password ({_reason(error)})"
        ) from None


def check_agreed(url: str, info: Mapping[str, Any], tls: Tls | None) -> None:
    """Raise unless the settings ask for what the server says of itself.

    Args:
        url: where it was dialled.
        info: the server's first words (INFO).
        tls: of this client.

    Raises:
        TlsMismatchError: they do not agree; the message says what to change.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    required = bool(info.get("tls_required"))
    if is_tls(url) and not (required or info.get("tls_available")):
        raise TlsMismatchError(
            f"{host} offers no TLS: nothing was sent; give the server a `tls` block, "
            "or write nats:// in nats_url to go without"
        )
    if required and not is_tls(url):
        raise TlsMismatchError(f"{host} takes only TLS: write tls:// in nats_url")
    if is_tls(url) and info.get("tls_verify") and not (tls and tls.own_certificate):
        raise TlsMismatchError(
            f"{host} wants a certificate of a CA that it trusts: set nats_tls_cert_file and "
            "nats_tls_key_file"
        )


def explained(error: BaseException, url: str) -> str | None:
    """What a failed handshake means for whoever set `url`; None = it was not TLS that failed."""
    at = urlsplit(url)
    host = at.netloc.rpartition("@")[2]
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return (
                f"the certificate of {host} does not carry the name {at.hostname}: name the server "
                "in nats_url as its certificate does"
            )
        return (
            f"the certificate of {host} is not trusted ({error.verify_message}): nats_tls_ca_file "
            "must hold the CA that signed it"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {host} ({_reason(error)})"
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
