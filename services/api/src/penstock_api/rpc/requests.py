"""The bodies of calls: what HTTP says in a path or after a `?` stands here in the document [pure]."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from penstock_api.paging import DEFAULT_LIMIT, MAX_LIMIT
from penstock_common.states import EndpointState

#: An endpoint's `id` or its `app_name`.
Name = Annotated[str, Field(min_length=1, max_length=255)]


class CallRequest(BaseModel):
    """Base of the bodies: a field that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EndpointRequest(CallRequest):
    """Which endpoint is meant."""

    #: its `id` or its `app_name`
    endpoint: Name


class PageRequest(CallRequest):
    """Which part of a list is asked for."""

    #: most items of the answer
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, strict=True)] = DEFAULT_LIMIT
    #: the `next_cursor` of the page before
    cursor: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """The same as HTTP says it behind the `?`."""
        page = {"limit": str(self.limit)}
        return page if self.cursor is None else {**page, "cursor": self.cursor}


class WorkerListRequest(PageRequest):
    """Which workers are asked for: those of an endpoint."""

    #: its `id` or its `app_name`
    endpoint: Name


class EndpointListRequest(PageRequest):
    """Which endpoints are asked for: all, or a page of them."""

    #: only endpoints in this state
    state: EndpointState | None = None
    #: only those whose name or app_name holds this
    q: str = ""


class EndpointUpdateRequest(EndpointRequest):
    """What is to change of an endpoint."""

    #: a JSON merge patch of its document: what it leaves out stays, null removes
    change: Mapping[str, Any]
