"""Where the key of secrets comes from."""

from pathlib import Path

import pytest

from penstock_common.lifecycle import MisconfiguredError
from penstock_common.sealing import new_key
from penstock_common.secret_keys import read_sealer, read_secret_key
from penstock_common.settings import ServiceSettings

KEY = new_key()


def settings(path: Path | None = None, key: str = "") -> ServiceSettings:
    return ServiceSettings.model_validate({"secret_key_file": path, "secret_key": key})


def test_the_key_lies_in_a_file_or_the_environment_or_both(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    file.write_text(KEY + "\n")
    for found in (settings(file), settings(key=KEY), settings(file, f" {KEY} ")):
        assert read_secret_key(found) == KEY
        assert KEY not in repr(found)
        assert KEY not in found.model_dump_json()
    assert read_secret_key(settings()) is None
    assert read_sealer(settings()) is None
    one, other = read_sealer(settings(file)), read_sealer(settings(key=KEY))
    assert one is not None
    assert other is not None
    assert other.open(one.seal({"A": "b"})) == {"A": "b"}


def test_two_different_keys_are_a_mistake_and_no_message_shows_one(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    file.write_text(new_key())
    wrong = KEY[:-5]
    mistakes = [
        (settings(file, KEY), "different keys"),
        (settings(tmp_path / "nowhere"), "cannot be read"),
        (settings(key=wrong), "44 characters"),
        (settings(key="ключ" * 11), "44 characters"),
    ]
    for mistake, told in mistakes:
        with pytest.raises(MisconfiguredError, match=told) as refused:
            read_secret_key(mistake)
        assert wrong not in str(refused.value)
        assert refused.value.__cause__ is None
