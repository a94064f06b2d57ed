"""The bodies of calls: what HTTP says in a path or after a `?` stands here in the document [pure]."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from penstock_api.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, parse_page
from penstock_common.states import EndpointState, WorkerState

#: An endpoint's `id` or its `app_name`.
Name = Annotated[str, Field(min_length=1, max_length=255)]


class CallRequest(BaseModel):
    """Base of the bodies: a field that is not known is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EndpointRequest(CallRequest):
    """Which endpoint is meant."""

    #: its `id` or its `app_name`
    endpoint: Name


class ListRequest(CallRequest):
    """Which part of a list is asked for."""

    #: most items of the answer
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, strict=True)] = DEFAULT_LIMIT
    #: the `next_cursor` of the page before
    cursor: str | None = None

    @property
    def page(self) -> Page:
        """The page.

        Raises:
            PenstockError: the cursor is none.
        """
        given = {"limit": str(self.limit), "cursor": self.cursor}
        return parse_page({name: text for name, text in given.items() if text is not None})


class EndpointListRequest(ListRequest):
    """Which endpoints are asked for: all, or a page of them."""

    #: only endpoints in this state
    state: EndpointState | None = None
    #: only those whose name or app_name holds this
    q: str = ""


class WorkerListRequest(ListRequest):
    """Which workers are asked for: all, or a page of them."""

    #: only those of this endpoint: its `id` or its `app_name`
    endpoint: Name | None = None
    #: only those on this node: its `id`
    node: str | None = None
    #: only workers in this state
    state: WorkerState | None = None


class EndpointUpdateRequest(EndpointRequest):
    """What is to change of an endpoint."""

    #: a JSON merge patch of its document: what it leaves out stays, null removes
    change: Mapping[str, Any]
