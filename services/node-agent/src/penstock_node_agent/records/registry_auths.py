"""Credentials for image pulls: read by id when a pull needs them, opened here and nowhere else."""

from collections.abc import Awaitable, Callable

from penstock_common.messages import RegistryAuthRecord
from penstock_common.nats.kv import Bucket
from penstock_common.registry_auths import PASSWORD
from penstock_common.sealing import SealBrokenError, Sealer
from penstock_common.states import WorkerReason
from penstock_node_agent.records.patient_reads import read_patiently
from penstock_node_agent.runtimes.protocol import Credentials, StartFailedError

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
        what = f"registry auth {registry_auth_id}"
        data = await read_patiently(self._bucket, registry_auth_id, what)
        if data is None:
            raise _failed(f"registry auth {registry_auth_id} is gone; set another one")
        record = _decode(registry_auth_id, data)
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


def _decode(registry_auth_id: str, data: bytes) -> RegistryAuthRecord:
    try:
        return RegistryAuthRecord.decode(data)
    except ValueError:
        raise _failed(
            f"registry auth {registry_auth_id} is not readable to this node's version"
        ) from None


def _failed(message: str) -> StartFailedError:
    return StartFailedError(WorkerReason.REGISTRY_AUTH_FAILED, message)
