"""TLS towards NATS: what is trusted, and what went wrong, in words that name the setting.

A `tls://` URL means: encrypted, or not at all. The server's certificate must be signed by a trusted
CA and carry the name or address that the URL has, before a password is sent.
"""

import ssl
from typing import Final
from urllib.parse import urlsplit

from penstock_common.lifecycle import MisconfiguredError
from penstock_common.settings import NatsSettings

#: OpenSSL's codes for a certificate that carries another name, or another address.
_OTHER_NAME: Final = frozenset({62, 64})
#: Alerts by which a server says that it wants a certificate of the client, or another one.
_WANTS_CERTIFICATE: Final = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA")


class TlsMismatchError(OSError):
    """URL and server do not agree on whether the connection is encrypted."""


def is_tls(url: str) -> bool:
    """Whether this URL asks for an encrypted connection."""
    return url.startswith("tls://")


def tls_context(settings: NatsSettings, urls: list[str]) -> ssl.SSLContext | None:
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
    return context


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


def check_agreed(url: str, *, required: bool, available: bool) -> None:
    """Raise unless the URL asks for what the server has said it does.

    Args:
        url: where it was dialled.
        required: the server takes only encrypted connections.
        available: it takes them.

    Raises:
        TlsMismatchError: they do not agree; the message says what to change.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    if is_tls(url) and not (required or available):
        raise TlsMismatchError(
            f"{host} offers no TLS: nothing was sent; give the server a `tls` block, "
            "or write nats:// in nats_url to go without"
        )
    if required and not is_tls(url):
        raise TlsMismatchError(f"{host} takes only TLS: write tls:// in nats_url")


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
        reason = _reason(error)
        if any(alert in reason for alert in _WANTS_CERTIFICATE):
            return (
                f"{host} wants a certificate of a CA that it trusts ({reason}): set "
                "nats_tls_cert_file and nats_tls_key_file"
            )
        return f"no TLS with {host} ({reason})"
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
