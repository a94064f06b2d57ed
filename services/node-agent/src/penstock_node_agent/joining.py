"""How a host becomes a node by a join token, and what it keeps of that.

The api is asked once; what it answers (NATS's address and credentials, the key of secrets) lies in
the data folder from then on, in a file that its owner alone can read, and stands in for the settings
that say the same. A token works as often as its maker said, often once: so an answer that was lost
is asked for again under the same `Idempotency-Key`, which the api gives without counting it twice.
"""

import asyncio
import json
import logging
import os
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp
from pydantic import SecretStr, ValidationError

from penstock_common.clock import Clock
from penstock_common.entropy import random_secret
from penstock_common.errors import PenstockError
from penstock_common.join_tokens import JoinAnswer
from penstock_common.lifecycle import MisconfiguredError
from penstock_node_agent.settings import Settings

logger = logging.getLogger(__name__)

#: Name of the file in the data folder.
CREDENTIALS_FILE: Final = "credentials.json"
#: An api that cannot be reached, or has no NATS, is asked again for so long.
PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 1.0
_TIMEOUT_S: Final = 10.0
#: Settings that say what the file says: one that is set is meant.
_CONNECTION: Final = frozenset({"nats_url", "nats_user", "nats_password", "nats_password_file"})
_CA: Final = frozenset({"nats_tls_ca", "nats_tls_ca_file"})
_KEY: Final = frozenset({"secret_key", "secret_key_file"})


class JoinFailedError(PenstockError):
    """The api could not be asked to let this host in."""

    error_type = "join_failed"


async def joined(settings: Settings, clock: Clock) -> Settings:
    """The settings with what the node got when it joined; it joins now if it has a token and has not.

    Raises:
        MisconfiguredError: the api refused the token, or what is kept cannot be read.
        JoinFailedError: the api cannot be reached.
    """
    kept = read_credentials(settings.data_dir)
    token = settings.join_token.get_secret_value().strip()
    if kept is None and not token:
        if settings.join_api_url is not None:
            raise MisconfiguredError(
                f"this node has not joined: {settings.data_dir / CREDENTIALS_FILE} is not there. "
                "Set PENSTOCK_NODE_AGENT_JOIN_TOKEN to a token (`penstock node join` makes one)"
            )
        return settings
    if kept is None:
        kept = await join(settings, clock)
    return applied(settings, kept)


async def join(settings: Settings, clock: Clock) -> JoinAnswer:
    """What the api answers to this host's token; it is kept in the data folder.

    Raises:
        MisconfiguredError: there is no token or api to ask, the api refused the token, or the
            answer cannot be kept.
        JoinFailedError: the api cannot be reached.
    """
    url, token = settings.join_api_url, settings.join_token.get_secret_value().strip()
    if url is None or not token:
        raise MisconfiguredError(
            "to join, set PENSTOCK_NODE_AGENT_JOIN_API_URL to the api, e.g. http://10.0.0.1:8000, "
            "and PENSTOCK_NODE_AGENT_JOIN_TOKEN to a token (`penstock node join` makes one)"
        )
    if not url.startswith(("http://", "https://")):
        raise MisconfiguredError(f"'{url}' is no URL of an api; it begins with http:// or https://")
    _check_writable(settings.data_dir)  # before the token is used up
    answer = await _ask(url.rstrip("/"), token, clock)
    keep_credentials(settings.data_dir, answer)
    logger.info("joined", extra={"action": "node_joined", "api": url})
    return answer


def applied(settings: Settings, kept: JoinAnswer) -> Settings:
    """The settings with what was kept, where nothing else is set."""
    told: dict[str, Any] = {"labels": {**kept.labels, **settings.labels}}
    if not settings.model_fields_set & _CONNECTION:
        told |= {
            "nats_url": kept.nats_url,
            "nats_user": kept.nats_user,
            "nats_password": SecretStr(kept.nats_password),
        }
        if not settings.model_fields_set & _CA:
            told["nats_tls_ca"] = kept.nats_tls_ca
    if "nats_replicas" not in settings.model_fields_set:
        told["nats_replicas"] = kept.nats_replicas
    if not settings.model_fields_set & _KEY:
        told["secret_key"] = SecretStr(kept.secret_key)
    return settings.model_copy(update=told)


def read_credentials(data_dir: Path) -> JoinAnswer | None:
    """What the node got when it joined; None = it has not joined by a token.

    Raises:
        MisconfiguredError: the file cannot be read, or others may read it.
    """
    path = data_dir / CREDENTIALS_FILE
    try:
        if path.stat().st_mode & 0o077:
            raise MisconfiguredError(f"others may read {path}: chmod 600 it")
        return JoinAnswer.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MisconfiguredError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError:  # its text could show a part of the secrets
        raise MisconfiguredError(f"{path} is damaged: remove it, and join again") from None


def keep_credentials(data_dir: Path, answer: JoinAnswer) -> None:
    """Write the file for its owner alone, whole or not at all.

    Raises:
        MisconfiguredError: it cannot be written.
    """
    path = data_dir / CREDENTIALS_FILE
    temporary = path.with_name(f"{CREDENTIALS_FILE}.new")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(answer.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise MisconfiguredError(f"{path} cannot be written: {error}") from None


def _check_writable(data_dir: Path) -> None:
    probe = data_dir / f"{CREDENTIALS_FILE}.probe"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise MisconfiguredError(f"data_dir {data_dir} cannot be written: {error}") from None


async def _ask(url: str, token: str, clock: Clock) -> JoinAnswer:
    deadline = clock.monotonic() + PATIENCE_S
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": random_secret()}
    async with aiohttp.ClientSession(
        headers=headers, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)
    ) as session:
        while True:
            try:
                return await _ask_once(session, url)
            except JoinFailedError as error:
                if clock.monotonic() >= deadline:
                    raise
                logger.warning(
                    "api not reached, trying again",
                    extra={"action": "join_retried", "api": url, "error": str(error)},
                )
            await asyncio.sleep(_PAUSE_S)


async def _ask_once(session: aiohttp.ClientSession, url: str) -> JoinAnswer:
    try:
        async with session.post(
            f"{url}/v1/join", json={"hostname": socket.gethostname()}, allow_redirects=False
        ) as answer:
            status, body = answer.status, await answer.read()
    except TimeoutError:
        raise JoinFailedError(f"{url} did not answer within {_TIMEOUT_S:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise JoinFailedError(f"{url} cannot be reached: {error}") from None
    if status == HTTPStatus.OK:
        try:
            return JoinAnswer.model_validate_json(body)
        except ValidationError:  # its text could show a part of the secrets
            raise MisconfiguredError(
                f"{url} answered what this agent does not understand; is the api of another version?"
            ) from None
    told = f"{url} answered {status}: {_detail(body)}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.REQUEST_TIMEOUT,
    ):
        raise JoinFailedError(told)
    if status == HTTPStatus.CONFLICT and b"request_under_way" in body:
        raise JoinFailedError(told)
    raise MisconfiguredError(told)


def _detail(body: bytes) -> str:
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return "no word of a Penstock api"
    return str(detail)[:500]
