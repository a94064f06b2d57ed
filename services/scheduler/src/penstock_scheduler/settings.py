"""Settings of the scheduler, from variables `PENSTOCK_SCHEDULER_…`."""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from penstock_common.settings import ServiceSettings


class Settings(ServiceSettings):
    """How the scheduler works; the defaults suit every installation known so far."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_SCHEDULER_", frozen=True, extra="ignore")

    #: seconds between decisions when nothing happens; whatever happens brings one at once
    tick_s: Annotated[float, Field(gt=0, le=10)] = 0.5
    #: life of the leader's lease in whole seconds: so long, and the half second that NATS takes to tell
    #: of its end, nothing is decided after a leader died
    lease_ttl_s: Annotated[int, Field(ge=2, le=60)] = 4
    #: how often a scheduler that does not lead tries to
    candidate_interval_s: Annotated[float, Field(gt=0, le=10)] = 0.5
    #: a node or router is lost when silent for so long; not below the TTL of its heartbeat (10 s)
    lost_after_s: Annotated[float, Field(ge=1, le=3_600)] = 10.0
    #: after a (re)connect, how long nodes and routers get to send a heartbeat (every 3 s) before
    #: the absence of capacity is believed
    settle_s: Annotated[float, Field(ge=0, le=60)] = 4.0

    @model_validator(mode="after")
    def _settle_before_lost(self) -> Self:
        if self.settle_s > self.lost_after_s:
            raise ValueError("settle_s must not be above lost_after_s")
        return self
