"""What orders mean for workers: who is to stop, and who may not even finish its requests [pure].

A worker that was ordered to stop counts as one of an older revision whose time is over
(`rollout.py`): it takes nothing new from this plan on and never comes back, and if the endpoint needs
it, another one starts in the same plan. That it ends is no failure.
"""

from collections.abc import Mapping
from datetime import datetime

from penstock_common.messages import WorkerOrder
from penstock_scheduler.snapshot import Worker


def is_to_stop(orders: Mapping[str, WorkerOrder], worker: Worker) -> bool:
    """Whether somebody ordered the worker to stop."""
    return worker.key in orders


def is_to_end(orders: Mapping[str, WorkerOrder], worker: Worker, utc: datetime) -> bool:
    """Whether it is to stop though requests are in flight at it."""
    order = orders.get(worker.key)
    return order is not None and order.deadline_at is not None and order.deadline_at <= utc
