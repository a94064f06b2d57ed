"""Settings of the api, from `PENSTOCK_API_*`."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from penstock_api.webhooks.addresses import AddressPolicy, parse_networks
from penstock_common.events.catalogue import Service
from penstock_common.settings import ServiceSettings, read_password
from penstock_common.volumes import check_plain_path


def _without_slash(url: str) -> str:
    return url.rstrip("/")


class ApiSettings(ServiceSettings):
    """Where the api listens, what it shows, which key is the administrator's."""

    model_config = SettingsConfigDict(env_prefix="PENSTOCK_API_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    #: 0 = any free port; the ready notice tells which
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    #: where callers reach the routers; an endpoint's `url` is this, a slash and its `app_name`
    router_url: Annotated[str, AfterValidator(_without_slash)] = "http://127.0.0.1:8080"
    #: NATS as node agents on other hosts reach it, e.g. `nats://10.0.0.1:4222`, comma-separated for a
    #: cluster; without it no host joins by a token. With `tls://` they are told the CA that the api
    #: trusts itself
    node_nats_url: str | None = None
    #: NATS user of node agents, and its password, also as a file; hosts that join are told them
    node_nats_user: str = Service.NODE_AGENT.value
    node_nats_password: SecretStr = SecretStr("")
    node_nats_password_file: Path | None = None
    #: the administrator's API key, in this file
    admin_key_file: Path | None = None
    #: price of one GPU for an hour: `product=price`, comma-separated; in which currency is yours
    gpu_prices: Annotated[Mapping[str, Decimal], NoDecode] = {}
    #: network storages made through Novita's API get a directory below this one, which every node
    #: has and allows (`volume_paths`); unset = they are refused
    novita_storage_path: Annotated[str, AfterValidator(check_plain_path)] | None = None
    #: requests a second that a key may send, and how many at once before that counts; who sends
    #: keys that are not known is bounded likewise by address
    rate_limit_per_s: Annotated[float, Field(gt=0)] = 200.0
    rate_limit_burst: Annotated[int, Field(ge=1)] = 1_000
    #: a connection that has sent no whole request head for so long is closed
    head_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    #: a request's body must be here within
    body_timeout_s: Annotated[float, Field(gt=0)] = 15.0
    #: an idle connection is kept so long for the next request
    keepalive_timeout_s: Annotated[float, Field(gt=0)] = 75.0
    #: requests under way get so long to end when the api stops
    shutdown_timeout_s: Annotated[float, Field(gt=0)] = 10.0

    #: addresses that webhooks may be sent to beside those of the public internet, in CIDR notation,
    #: comma-separated; the others are refused, as a webhook makes the api send requests inside
    webhook_allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    #: addresses that they may not be sent to, also where they are public or allowed
    webhook_denied_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    #: a receiver must have answered within
    webhook_timeout_s: Annotated[float, Field(gt=0, le=60)] = 15.0
    #: between the first and the second attempt of a delivery; further waits are three times as long
    #: as the one before, six hours at most
    webhook_retry_s: Annotated[float, Field(gt=0, le=3600)] = 5.0

    @property
    def webhook_addresses(self) -> AddressPolicy:
        """Which addresses webhooks may be sent to."""
        return AddressPolicy(self.webhook_allowed_networks, self.webhook_denied_networks)

    @field_validator("webhook_allowed_networks", "webhook_denied_networks", mode="before")
    @classmethod
    def _read_networks(cls, value: object) -> object:
        return parse_networks(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _read_node_password(self) -> Self:
        password = read_password(
            self.node_nats_password, self.node_nats_password_file, "node_nats_password_file"
        )
        object.__setattr__(self, "node_nats_password", password)  # frozen once made
        return self

    @field_validator("gpu_prices", mode="before")
    @classmethod
    def _read_prices(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        prices: dict[str, Decimal] = {}
        for part in filter(None, (part.strip() for part in value.split(","))):
            product, _, price = part.partition("=")
            try:
                prices[product.strip().lower()] = read = Decimal(price.strip())
            except InvalidOperation:
                read = Decimal(-1)
            if not product.strip() or not read.is_finite() or read < 0:
                raise ValueError(f"'{part}' is no price such as rtx-4090-24gb=0.35")
        return prices
