"""Certificates of the settings that cannot work are told before anything is dialled."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from penstock_common.lifecycle import MisconfiguredError
from penstock_common.nats.tls import tls_of
from penstock_common.settings import NatsSettings

TLS = "tls://127.0.0.1:4222"
PLAIN = "nats://127.0.0.1:4222"


def settings(**fields: Any) -> NatsSettings:
    return NatsSettings(**{"nats_url": TLS, **fields})


def test_the_ca_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ValidationError, match="nats_tls_ca_file cannot be read"):
        settings(nats_tls_ca_file=file)
    file.write_text("one")
    assert settings(nats_tls_ca_file=file).nats_tls_ca == "one"
    with pytest.raises(ValidationError, match="not both"):
        settings(nats_tls_ca_file=file, nats_tls_ca="another")


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    with pytest.raises(MisconfiguredError, match="nats_tls_ca_file holds no certificates"):
        tls_of(settings(nats_tls_ca="no PEM"), [TLS])
    file, none = tmp_path / "a.pem", tmp_path / "none.pem"
    file.write_text("no PEM")
    with pytest.raises(MisconfiguredError, match="nats_tls_key_file cannot be read"):
        tls_of(settings(nats_tls_cert_file=file, nats_tls_key_file=none), [TLS])
    with pytest.raises(MisconfiguredError, match="must be a certificate and its key"):
        tls_of(settings(nats_tls_cert_file=file, nats_tls_key_file=file), [TLS])
    with pytest.raises(MisconfiguredError, match="or neither"):
        tls_of(settings(nats_tls_cert_file=file), [TLS])


def test_a_ca_would_not_go_unused() -> None:
    """Who sets a CA means TLS: one address without it would be sent the password in the clear."""
    for urls in ([PLAIN], [TLS, PLAIN]):
        with pytest.raises(MisconfiguredError, match="nats_tls_ca_file is set, so every address"):
            tls_of(settings(nats_tls_ca="pem"), urls)


def test_without_tls_there_is_nothing_to_encrypt_with() -> None:
    assert tls_of(settings(), [PLAIN]) is None
    assert tls_of(settings(), [PLAIN, TLS]) is not None
