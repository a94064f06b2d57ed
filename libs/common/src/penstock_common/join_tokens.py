"""The documents of a join token, and of a host that joins with it."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from penstock_common.document_parsing import parse_document

#: Hosts may take so long until they join, unless told otherwise; at most.
DEFAULT_LIFETIME_S: Final = 3_600
MAX_LIFETIME_S: Final = 30 * 24 * 3_600
MAX_USES: Final = 10_000

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]


class JoinTokenSpec(BaseModel):
    """A join token to be made."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    #: for people
    name: Annotated[str, Field(max_length=100)] = ""
    #: nobody joins with it after so many seconds
    expires_in_s: Annotated[int, Field(ge=1, le=MAX_LIFETIME_S, strict=True)] = DEFAULT_LIFETIME_S
    #: so many hosts join with it at most
    max_uses: Annotated[int, Field(ge=1, le=MAX_USES, strict=True)] = 1
    #: labels that nodes get which join with it, beside their own
    labels: Annotated[Mapping[Label, Label], Field(max_length=32)] = {}


class JoinRequest(BaseModel):
    """What a host says of itself when it joins."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    #: the join token, unless it stands in `Authorization: Bearer <token>`
    token: Annotated[str | None, Field(max_length=200, repr=False)] = None
    #: for people
    hostname: Annotated[str, Field(max_length=255)] = ""


class JoinAnswer(BaseModel):
    """What a node agent needs. It holds the installation's secrets."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    #: NATS as the host reaches it, comma-separated for a cluster
    nats_url: str
    nats_user: str
    nats_password: Annotated[str, Field(repr=False)]
    #: certificates of the CAs whose NATS servers are trusted, PEM; empty = those of the host
    nats_tls_ca: str = ""
    #: copies of each stream
    nats_replicas: int
    #: the key that opens secrets
    secret_key: Annotated[str, Field(repr=False)]
    #: the node's, beside those of its own
    labels: Mapping[str, str]


def parse_join_token(document: object) -> JoinTokenSpec:
    """The token to be made, from this JSON value.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    return parse_document(JoinTokenSpec, document)


def parse_join_request(document: object) -> JoinRequest:
    """What a host says, from this JSON value.

    Raises:
        InvalidDocumentError: with every problem found.
    """
    return parse_document(JoinRequest, document)
