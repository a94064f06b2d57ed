"""What a handler may use."""

from dataclasses import dataclass

from penstock_api.audit.follower import AuditFollower
from penstock_api.audit.reader import AuditReader
from penstock_api.audit.trail import AuditTrail
from penstock_api.event_reader import EventReader
from penstock_api.idempotency import Repeats
from penstock_api.key_uses import KeyUseBook
from penstock_api.load_history import LoadHistory
from penstock_api.loads import Loads
from penstock_api.log_reader import LogReader
from penstock_api.rate_limits import RateLimits
from penstock_api.settings import ApiSettings
from penstock_api.store import Store
from penstock_api.usage_reader import UsageReader
from penstock_api.webhooks.deliveries import DeliveryLog
from penstock_api.webhooks.outbox import Outbox
from penstock_common.clock import Clock
from penstock_common.events.publisher import EventPublisher
from penstock_common.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Api:
    """The parts of the api that handlers work with, made once at start."""

    settings: ApiSettings
    clock: Clock
    store: Store
    loads: Loads
    events: EventPublisher
    sealer: Sealer
    repeats: Repeats
    limits: RateLimits
    usage: UsageReader
    logs: LogReader
    history: LoadHistory
    outbox: Outbox
    deliveries: DeliveryLog
    event_reader: EventReader
    audit: AuditTrail
    audit_reader: AuditReader
    audit_follower: AuditFollower
    key_uses: KeyUseBook
