"""The parts of webhooks put together: what the api runs beside its routes."""

from penstock_api.context import Api
from penstock_api.settings import ApiSettings
from penstock_api.webhooks.couriers import Couriers, WebhookBooks
from penstock_api.webhooks.delivery import Parts
from penstock_api.webhooks.schedule import RetrySchedule
from penstock_api.webhooks.sender import Sender
from penstock_common.nats.connection import Bus


def ack_wait_s(settings: ApiSettings) -> float:
    """Seconds after which a delivery counts as lost with its api and is made by another.

    Longer than one may take: the request, and its record before and after.
    """
    return 2 * settings.webhook_timeout_s + 1


async def run_webhooks(api: Api, bus: Bus) -> None:
    """Deliver events to webhooks, for ever."""
    settings = api.settings
    sender = Sender(api.clock, settings.webhook_addresses, settings.webhook_timeout_s)
    parts = Parts(
        bus=bus,
        clock=api.clock,
        outbox=api.outbox,
        log=api.deliveries,
        sender=sender,
        sealer=api.sealer,
        schedule=RetrySchedule(first_s=settings.webhook_retry_s),
        note_timeout_s=settings.webhook_timeout_s / 2,
        on_attempt=WebhookBooks(bus, api.store, api.audit, api.clock).note,
    )
    try:
        await Couriers(api.store, parts).run()
    finally:
        await sender.close()
