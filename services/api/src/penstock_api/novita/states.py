"""States of ours in Novita's words [pure]."""

from collections.abc import Mapping
from typing import Final

from penstock_common.states import EndpointState, WorkerState

#: `serving` = it answers requests.
ENDPOINT_STATES: Final[Mapping[EndpointState, str]] = {
    EndpointState.DEPLOYING: "creating",
    EndpointState.SERVING: "serving",
    EndpointState.UPDATING: "updating",
    EndpointState.FAILED: "failed",
    EndpointState.PAUSED: "stopped",
    EndpointState.DELETING: "deleting",
}
#: `running` = it answers requests.
WORKER_STATES: Final[Mapping[WorkerState, str]] = {
    WorkerState.PENDING: "pending",
    WorkerState.PULLING: "creating",
    WorkerState.STARTING: "creating",
    WorkerState.RUNNING: "running",
    WorkerState.DRAINING: "deleting",
    WorkerState.STOPPED: "removed",
    WorkerState.FAILED: "failed",
}
