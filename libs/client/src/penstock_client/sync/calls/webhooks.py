# Made by libs/client/make_sync.py of penstock_client/calls/webhooks.py: change that one.
"""Calls about webhooks, and about what became of the events that they were sent."""

from collections.abc import Mapping
from typing import Any, Final

from penstock_client.api_requests import quoted
from penstock_client.documents import (
    DeliveryDetail,
    DeliveryDocument,
    DeliveryList,
    WebhookDocument,
    WebhookList,
    WebhookMade,
)
from penstock_client.errors import WaitTimeoutError
from penstock_client.sync.calls.listing import Listing
from penstock_client.sync.calls.waiting import looks
from penstock_client.sync.transport import Transport
from penstock_common.messages import DeliveryState

PATH: Final = "/v1/webhooks"


class WebhookCalls:
    """Webhooks, each named by its id; deliveries, each by the id of its event."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, document: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> WebhookMade:
        """The webhook made from this document (docs/webhooks.md); its `secret` is shown this once.

        Sent again with the same `idempotency_key` within a day, it makes no second one and is
        answered with the first. None = a fresh key for this call and what the client repeats of it.
        """
        return self._transport.ask(
            WebhookMade, "POST", PATH, document, idempotency_key=idempotency_key
        )

    def list(self) -> Listing[WebhookDocument, WebhookList]:
        """The webhooks, oldest first."""
        return Listing(self._transport, PATH, WebhookList, lambda page: page.webhooks)

    def show(self, webhook: str) -> WebhookDocument:
        """The webhook with this id, and how its receiver does."""
        return self._transport.ask(WebhookDocument, "GET", _path(webhook))

    def update(self, webhook: str, patch: Mapping[str, Any]) -> WebhookDocument:
        """The webhook after a JSON merge patch."""
        return self._transport.ask(WebhookDocument, "PATCH", _path(webhook), patch)

    def delete(self, webhook: str) -> WebhookDocument:
        """The webhook as it was; what waited for it is not sent any more."""
        return self._transport.ask(WebhookDocument, "DELETE", _path(webhook))

    def rotate_secret(self, webhook: str, *, grace_s: float | None = None) -> WebhookMade:
        """The webhook with another `secret`, shown this once.

        Args:
            webhook: its id.
            grace_s: seconds in which the secret before signs as well; None = a day.
        """
        document = {} if grace_s is None else {"grace_s": grace_s}
        path = f"{_path(webhook)}/rotate-secret"
        return self._transport.ask(WebhookMade, "POST", path, document)

    def test(self, webhook: str) -> DeliveryDocument:
        """The delivery of an event that means nothing, on its way."""
        return self._transport.ask(DeliveryDocument, "POST", f"{_path(webhook)}/test")

    def deliveries(
        self, webhook: str, *, state: DeliveryState | None = None, page_size: int | None = None
    ) -> Listing[DeliveryDocument, DeliveryList]:
        """What became of the events of this webhook, those of the newest first.

        Args:
            webhook: its id.
            state: only those in this state.
            page_size: of the pages that the list is fetched in.
        """
        return Listing(
            self._transport,
            f"{_path(webhook)}/deliveries",
            DeliveryList,
            lambda page: page.deliveries,
            {"state": state, "limit": page_size},
        )

    def show_delivery(self, webhook: str, event: str) -> DeliveryDetail:
        """An event, and each attempt to deliver it."""
        return self._transport.ask(DeliveryDetail, "GET", _delivery(webhook, event))

    def redeliver(self, webhook: str, event: str) -> DeliveryDocument:
        """The delivery as it was; the event is on its way once more."""
        path = f"{_delivery(webhook, event)}/redeliver"
        return self._transport.ask(DeliveryDocument, "POST", path)

    def wait_for_attempt(
        self, webhook: str, event: str, *, after: int, timeout_s: float, poll_s: float = 0.1
    ) -> DeliveryDetail:
        """The delivery once more than `after` attempts were made.

        Goes on while the api is away for a moment.

        Raises:
            WaitTimeoutError: there was none within `timeout_s` seconds.
            ApiError: the api refused.
        """
        path = _delivery(webhook, event)
        for seen in looks(
            self._transport, DeliveryDetail, path, timeout_s=timeout_s, poll_s=poll_s
        ):
            if seen is not None and seen.n_attempts > after:
                return seen
        raise WaitTimeoutError(f"no attempt to deliver '{event}' was made within {timeout_s:g} s")


def _path(webhook: str) -> str:
    return f"{PATH}/{quoted(webhook)}"


def _delivery(webhook: str, event: str) -> str:
    return f"{_path(webhook)}/deliveries/{quoted(event)}"
