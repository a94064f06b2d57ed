"""Workers' own disks and local volumes, measured where the engine cannot bound them itself."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from docker import APIClient

from penstock_node_agent.runtimes.docker import containers, volumes
from penstock_node_agent.runtimes.docker.containers import DiskUse
from penstock_node_agent.runtimes.docker.volumes import VolumeUse

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)

#: The engine walks all that containers wrote to measure it.
_PERIOD_TICKS: Final = 10
#: Where volumes cannot be read by this process the engine is asked for an account of its whole
#: disk, every so many measurements: it walks everybody's volumes for that.
_ACCOUNT_PERIOD: Final = 6

_Use: TypeAlias = DiskUse | VolumeUse
_Measure: TypeAlias = Callable[[APIClient], list[_Use]]


class DiskWatch:
    """Measures every few ticks, and remembers who holds more than it may."""

    def __init__(self, node_id: str, on_exceeded: Callable[[str], object]) -> None:
        """Watch the containers of one node; `on_exceeded` is called once with a worker id."""
        node = f"{containers.NODE_LABEL}={node_id}"
        self._disks = {"status": "running", "label": [node, containers.DISK_LABEL]}
        self._volumes = {"label": [node, volumes.SIZE_LABEL]}
        self._on_exceeded = on_exceeded
        self._exceeded: dict[str, str] = {}
        self._measuring: asyncio.Future[list[_Use]] | None = None
        self._ticks = 0
        self._measured = 0

    def problem(self, worker_id: str) -> str | None:
        """What is wrong with the worker's disk; None = nothing known."""
        return self._exceeded.get(worker_id)

    def forget(self, worker_id: str) -> None:
        """The worker is gone."""
        self._exceeded.pop(worker_id, None)

    def tend(self, in_thread: "Callable[[_Measure], asyncio.Future[list[_Use]]]") -> None:
        """See what was measured, and measure again; a slow engine holds nobody up.

        Args:
            in_thread: begins a measurement in a thread.
        """
        self._ticks += 1
        measuring = self._measuring
        if measuring is not None and measuring.done():
            self._measuring = None
            error = measuring.exception()
            if error is None:
                self._judge(measuring.result())
            else:
                logger.warning(
                    "disk use of workers not measured",
                    extra={"action": "disks_unmeasured", "error": str(error)},
                )
        if self._measuring is None and self._ticks % _PERIOD_TICKS == 0:
            self._measuring = in_thread(self._measure)

    def _measure(self, client: APIClient) -> list[_Use]:
        found = client.containers(size=True, filters=self._disks)
        uses = [use for item in found if (use := containers.read_disk_use(item)) is not None]
        return [*uses, *self._measure_volumes(client)]

    def _measure_volumes(self, client: APIClient) -> list[VolumeUse]:
        uses: list[VolumeUse | None] = []
        unread: set[str] = set()
        here = client.base_url.startswith("http+docker://")
        for item in client.volumes(filters=self._volumes)["Volumes"] or ():
            used = volumes.directory_bytes(Path(item["Mountpoint"])) if here else None
            if used is None:
                unread.add(item["Name"])
            else:
                uses.append(volumes.read_volume_use(item, used))
        self._measured += 1
        if unread and self._measured % _ACCOUNT_PERIOD == 1:
            account = client.df()["Volumes"] or ()
            uses += [volumes.read_volume_use(item) for item in account if item["Name"] in unread]
        return [use for use in uses if use is not None]

    def _judge(self, uses: Sequence[_Use]) -> None:
        for use in uses:
            if use.used_bytes > use.limit_bytes and use.worker_id not in self._exceeded:
                self._exceeded[use.worker_id] = _sentence(use)
                self._on_exceeded(use.worker_id)


def _sentence(use: _Use) -> str:
    where, bound = "on its own disk", "storage.container_disk_gb"
    if isinstance(use, VolumeUse):
        where, bound = f"in its local volume at {use.mount_path}", "its size_gb"
    return (
        f"holds {use.used_bytes / 1e9:.1f} GB {where}, more than the "
        f"{use.limit_bytes / 1e9:g} GB of {bound}"
    )
