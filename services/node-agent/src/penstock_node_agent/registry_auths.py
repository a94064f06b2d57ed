"""Credentials for image pulls: read by id when a pull needs them, opened here and nowhere else."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from penstock_common.errors import BusDisconnectedError, BusTimeoutError, NoRespondersError
from penstock_common.kv import Bucket
from penstock_common.messages import RegistryAuthRecord
from penstock_common.registry_auths import PASSWORD
from penstock_common.sealing import SealBrokenError, Sealer
from penstock_common.states import WorkerReason
from penstock_node_agent.runtime import Credentials, StartFailedError

logger = logging.getLogger(__name__)

#: Before each repeated read while NATS is away.
_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_AWAY: Final = (BusDisconnectedError, BusTimeoutError, NoRespondersError)

#: Gives the credentials with this id.
OpenAuth = Callable[[str], Awaitable[Credentials]]


class RegistryAuths:
    """Reads and opens registry auths."""

    def __init__(self, bucket: Bucket, sealer: Sealer | None) -> None:
        """Nothing is read yet; `sealer` None = the node has no key."""
        self._bucket = bucket
        self._sealer = sealer

    async def open(self, registry_auth_id: str) -> Credentials:
        """The credentials with this id, in the clear.

        Raises:
            StartFailedError: they are gone, cannot be opened here, or NATS stays away for half a
                minute; the message names the id and no more.
        """
        record = await self._read(registry_auth_id)
        if record is None:
            raise _failed(f"registry auth {registry_auth_id} is gone; set another one")
        if self._sealer is None:
            raise _failed(
                f"registry auth {registry_auth_id} is sealed, and this node has no key: "
                "set secret_key_file"
            )
        try:
            password = self._sealer.open(record.sealed)[PASSWORD]
        except (SealBrokenError, KeyError):
            raise _failed(
                f"registry auth {registry_auth_id} was sealed with another key than this node's"
            ) from None
        return Credentials(record.username, password)

    async def _read(self, registry_auth_id: str) -> RegistryAuthRecord | None:
        for pause_s in (*_PAUSES_S, None):
            try:
                # The stream's leader: a replica may not know yet what was made a moment ago.
                entry, _revision = await self._bucket.latest(registry_auth_id)
            except _AWAY as error:
                if pause_s is None:
                    break
                logger.warning(
                    "registry auth cannot be read, reading again",
                    extra={
                        "action": "registry_auth_unread",
                        "registry_auth_id": registry_auth_id,
                        "error": str(error),
                        "pause_s": pause_s,
                    },
                )
                await asyncio.sleep(pause_s)
            else:
                return _decode(registry_auth_id, entry.value) if entry is not None else None
        raise StartFailedError(
            WorkerReason.START_FAILED,
            f"registry auth {registry_auth_id} could not be read: NATS is away",
        )


def _decode(registry_auth_id: str, data: bytes) -> RegistryAuthRecord:
    try:
        return RegistryAuthRecord.decode(data)
    except ValueError:
        raise _failed(
            f"registry auth {registry_auth_id} is not readable to this node's version"
        ) from None


def _failed(message: str) -> StartFailedError:
    return StartFailedError(WorkerReason.REGISTRY_AUTH_FAILED, message)
