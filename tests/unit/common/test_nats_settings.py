"""Where the NATS password comes from."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from penstock_common.settings import NatsSettings


def test_the_password_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "nats.password"
    file.write_text("canary-11\n")
    settings = NatsSettings(nats_password_file=file)
    assert settings.nats_password.get_secret_value() == "canary-11"
    assert "canary-11" not in repr(settings)


def test_a_file_that_is_not_there_or_a_password_beside_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "nats.password"
    with pytest.raises(ValidationError, match="cannot be read"):
        NatsSettings(nats_password_file=file)
    file.write_text("canary-11")
    monkeypatch.setenv("NATS_PASSWORD", "canary-22")
    with pytest.raises(ValidationError, match="not both") as refused:
        NatsSettings(nats_password_file=file)
    assert "canary" not in str(refused.value)
