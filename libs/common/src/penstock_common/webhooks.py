"""The documents of a webhook: what a person writes to make one, and to change it [pure].

A webhook is a URL that events are sent to; docs/webhooks.md tells its story.
"""

import re
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from penstock_common.document_parsing import parse_document

#: Seconds in which the secret before a rotation still signs, unless asked otherwise.
DEFAULT_GRACE_S: Final = 24 * 3600
MAX_GRACE_S: Final = 7 * 24 * 3600

_BAD_IN_URL: Final = re.compile(r"[\s\x00-\x20\x7f\\]")


def _check_url(url: str) -> str:
    if _BAD_IN_URL.search(url):
        raise ValueError(
            "holds a space, a control character or a backslash; write %20 and the like"
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with https:// or http://")
    if not host:
        raise ValueError("names no host")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password, which would be shown; remove it")
    if "#" in url:
        raise ValueError("has a fragment (#…), which is never sent; remove it")
    return url


Url = Annotated[str, Field(min_length=1, max_length=2_000), AfterValidator(_check_url)]
#: the type of an event, or the beginning of some with its dot
EventType = Annotated[str, Field(max_length=200, pattern=r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$")]
EndpointName = Annotated[str, Field(min_length=1, max_length=100)]
EventTypes = Annotated[tuple[EventType, ...], Field(max_length=50)]
EndpointNames = Annotated[tuple[EndpointName, ...], Field(max_length=50)]
Description = Annotated[str, Field(max_length=500)]


class WebhookSpec(BaseModel):
    """What a person writes."""

    # A URL may hold a token: an error's text does not repeat it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    #: where events are sent, http or https; redirects are not followed
    url: Url
    #: types of the events to send, e.g. `penstock.worker.failed`, or the beginning of some with
    #: its dot, `penstock.worker.`; empty = every type
    event_types: EventTypes = ()
    #: ids or `app_name`s: only events about these endpoints and their workers; empty = all events
    endpoints: EndpointNames = ()
    #: for people
    description: Description = ""
    #: false = nothing is sent, and what happens meanwhile never will be
    enabled: bool = True


class WebhookPatch(BaseModel):
    """A JSON merge patch of a webhook: what is left out stays, null = the default."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    #: where events are sent, http or https; redirects are not followed
    url: Url | None = None
    #: types of the events to send; empty = every type
    event_types: EventTypes | None = None
    #: ids or `app_name`s of endpoints; empty = all events
    endpoints: EndpointNames | None = None
    #: for people
    description: Description | None = None
    #: false = nothing is sent, and what happens meanwhile never will be
    enabled: bool | None = None

    @model_validator(mode="after")
    def _url_stays(self) -> Self:
        if "url" in self.model_fields_set and self.url is None:
            raise ValueError("url cannot be taken away; write another one")
        return self

    def apply(self, spec: WebhookSpec) -> WebhookSpec:
        """The document with this patch."""
        defaults = {"event_types": (), "endpoints": (), "description": "", "enabled": True}
        named = {name: getattr(self, name) for name in self.model_fields_set}
        changes = {k: defaults.get(k) if v is None else v for k, v in named.items()}
        return spec.model_copy(update=changes)


def parse_webhook(document: object) -> WebhookSpec:
    """The webhook to be made, from this JSON value.

    Raises:
        InvalidDocumentError: with every problem found; no message holds a value.
    """
    return parse_document(WebhookSpec, document)


def parse_webhook_patch(document: object) -> WebhookPatch:
    """The change of a webhook, from this JSON value.

    Raises:
        InvalidDocumentError: with every problem found; no message holds a value.
    """
    return parse_document(WebhookPatch, document)
