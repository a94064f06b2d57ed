"""KV buckets and watched tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from penstock_common.connection import Bus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's last value."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Fence:
    """A write carrying it is refused once the key's last revision is another (same bucket only)."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """A decoded value and its revision in KV."""

    value: T
    revision: int


class Bucket:
    """One KV bucket, by raw publishes (no client-side buffering, TTL and fence per write)."""

    def __init__(self, bus: Bus, name: str) -> None:
        raise NotImplementedError

    async def get(self, key: str) -> Entry | None:
        """The last value; None when the key is absent, deleted or expired."""
        raise NotImplementedError

    async def last_revision(self, key: str) -> int:
        """Last revision of the key, delete and expiry markers included; 0 = never written."""
        raise NotImplementedError

    async def put(
        self,
        key: str,
        value: bytes,
        *,
        revision: int | None = None,
        ttl_s: int | None = None,
        fence: Fence | None = None,
    ) -> int:
        """Write and give the new revision.

        `revision`: expected last one (0 = never written), or None for any.
        """
        raise NotImplementedError

    async def delete(
        self, key: str, *, revision: int | None = None, fence: Fence | None = None
    ) -> None:
        """Delete the key (a marker remains)."""
        raise NotImplementedError


class WatchedTable(Generic[T]):
    """A live copy of a bucket's rows: list, watch, re-list after every reconnect."""

    def __init__(
        self,
        bus: Bus,
        bucket: str,
        decode: Callable[[bytes], T],
        *,
        keys: str = ">",
        on_change: Callable[[str, Row[T] | None], None] | None = None,
        on_synced: Callable[[], None] | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def rows(self) -> Mapping[str, Row[T]]:
        """Key → row. While disconnected: as last seen."""
        raise NotImplementedError

    @property
    def synced(self) -> bool:
        """Whether `rows` is whole and current as far as this connection knows."""
        raise NotImplementedError

    async def start(self, *, wait_s: float = 10.0) -> None:
        """Begin, and wait for the first whole listing."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End the watch."""
        raise NotImplementedError
