"""Network volumes that a worker needs: read by id when it starts."""

from collections.abc import Awaitable, Callable

from penstock_common.messages import VolumeRecord
from penstock_common.nats.kv import Bucket
from penstock_common.specs import EndpointSpec
from penstock_common.states import WorkerReason
from penstock_node_agent.records.patient_reads import read_patiently
from penstock_node_agent.runtimes.protocol import StartFailedError, VolumeMount

#: Gives what of network volumes a worker of this endpoint mounts.
ReadMounts = Callable[[EndpointSpec], Awaitable[tuple[VolumeMount, ...]]]


class NetworkVolumes:
    """Reads where volumes' data lie."""

    def __init__(self, bucket: Bucket) -> None:
        """Nothing is read yet."""
        self._bucket = bucket

    async def mounts(self, spec: EndpointSpec) -> tuple[VolumeMount, ...]:
        """What a worker of this endpoint mounts, in the order of its document.

        Raises:
            StartFailedError: a volume is gone, or NATS stays away for half a minute.
        """
        found: list[VolumeMount] = []
        for volume in spec.storage.network_volumes:
            data = await read_patiently(self._bucket, volume.id, f"volume {volume.id}")
            if data is None:
                raise StartFailedError(
                    WorkerReason.VOLUME_UNAVAILABLE,
                    f"volume {volume.id} is gone; make another one and name that",
                )
            source = _decode(volume.id, data).source
            found.append(VolumeMount(volume.id, source, volume.mount_path, volume.read_only))
        return tuple(found)


def _decode(volume_id: str, data: bytes) -> VolumeRecord:
    try:
        return VolumeRecord.decode(data)
    except ValueError:
        raise StartFailedError(
            WorkerReason.VOLUME_UNAVAILABLE,
            f"volume {volume_id} is not readable to this node's version",
        ) from None
