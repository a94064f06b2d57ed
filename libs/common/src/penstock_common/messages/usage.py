"""What a worker has used, once it has ended."""

from pydantic import AwareDatetime

from penstock_common.messages.base import Message


class UsageRecord(Message):
    """A worker that has ended, and how long it held its GPUs.

    Stream USAGE, `usage(<worker_id>)`, one a worker; written by the scheduler (leader) before it
    removes the assignment.
    """

    worker_id: str
    endpoint_id: str
    #: name of the endpoint when the worker was started
    app_name: str
    #: id of the API key that the endpoint belongs to
    owner: str | None = None
    node_id: str
    gpu_product: str | None = None
    gpus: int
    #: assigned: nobody else could get the GPUs from then on
    began_at: AwareDatetime
    #: proved to be gone, or given up with its node; not before `began_at`
    ended_at: AwareDatetime
