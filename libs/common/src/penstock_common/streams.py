"""The streams and buckets of Penstock, declared in one table and made by one piece of code."""

from collections.abc import Mapping
from typing import Any

from penstock_common.connection import Bus


async def ensure_streams(bus: Bus, *, replicas: int = 1) -> None:
    """Make every stream and bucket that is missing, and bring the others to the table."""
    raise NotImplementedError


def ticket_consumer(endpoint_id: str) -> Mapping[str, Any]:
    """Configuration of the durable consumer of one endpoint's tickets."""
    raise NotImplementedError


async def check_durability(bus: Bus, monitor_url: str | None) -> None:
    """Log loudly when the server does not sync acknowledged writes to disk, or cannot be asked."""
    raise NotImplementedError
