"""What somebody wants of a worker."""

from pydantic import AwareDatetime

from penstock_common.messages.base import Message


class WorkerOrder(Message):
    """An order to stop a worker. Bucket WORKER_ORDERS; written by the api.

    No order takes it back; the api removes it once the worker is gone.
    """

    worker_id: str
    node_id: str
    endpoint_id: str
    #: for people; empty = none given
    reason: str = ""
    #: when this was ordered first
    at: AwareDatetime
    #: from then on it is stopped though requests are in flight; null = they all end first
    deadline_at: AwareDatetime | None = None
