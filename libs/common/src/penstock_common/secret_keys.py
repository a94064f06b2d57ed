"""Where a service has the key of secrets from: a file, or its environment."""

from penstock_common.lifecycle import MisconfiguredError
from penstock_common.sealing import Sealer, is_key
from penstock_common.settings import ServiceSettings


def read_secret_key(settings: ServiceSettings) -> str | None:
    """The key of secrets as text; None = none is set.

    Raises:
        MisconfiguredError: its file cannot be read, it is no such key, or file and environment
            hold different ones; no message holds a key.
    """
    given = settings.secret_key.get_secret_value().strip()
    path = settings.secret_key_file
    if path is not None:
        try:
            kept = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise MisconfiguredError(f"the key of secrets cannot be read: {error}") from None
        if given and given != kept:
            raise MisconfiguredError(
                f"secret_key and the secret_key_file {path} hold different keys: leave one out. "
                "What was sealed with one cannot be opened with the other"
            )
        given, where = kept, str(path)
    elif given:
        where = "secret_key"
    else:
        return None
    if not is_key(given):
        raise MisconfiguredError(
            f"the key of secrets in {where} is none: it has 44 characters, as `penstock init` "
            "makes it"
        )
    return given


def read_sealer(settings: ServiceSettings) -> Sealer | None:
    """What seals and opens secrets; None = no key is set. Raises as `read_secret_key`."""
    key = read_secret_key(settings)
    return None if key is None else Sealer(key)
