"""When the use of a worker that is removed is known [pure].

The node's word of a worker's end is a fact that every leader reads alike. An end without that word
(a lost node, a node that never spoke of the worker) is the leader's judgement: it is first written
into the assignment, under the fence, so that the next leader counts by the same instant, whatever
it would judge itself.
"""

from penstock_scheduler.snapshot import Stage, Worker


def needs_mark(worker: Worker) -> bool:
    """Whether the end is to be written into the assignment before the record is."""
    return worker.stage is not Stage.ENDED and worker.assignment.ended_at is None
