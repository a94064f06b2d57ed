"""A lease with a fencing token, on one KV key with a TTL."""

from penstock_common.clock import Clock
from penstock_common.kv import Bucket, Fence


class Lease:
    """Claims `key` for `holder` and keeps it; the revision of the claim is the fencing token."""

    def __init__(self, bucket: Bucket, key: str, *, holder: str, ttl_s: int, clock: Clock) -> None:
        raise NotImplementedError

    @property
    def held(self) -> bool:
        """Whether it is surely held: false from `margin` before the TTL, counted from the send."""
        raise NotImplementedError

    @property
    def token(self) -> int:
        """Fencing token: revision of the acquisition (constant while held, grows with holders)."""
        raise NotImplementedError

    @property
    def fence(self) -> Fence:
        """Fence of the lease's current revision, for writes in the same bucket."""
        raise NotImplementedError

    async def try_acquire(self) -> bool:
        """Take it if nobody holds it."""
        raise NotImplementedError

    async def renew(self) -> bool:
        """Extend it; False = lost."""
        raise NotImplementedError

    async def release(self) -> None:
        """Give it up, so that the next holder need not wait for the TTL."""
        raise NotImplementedError
