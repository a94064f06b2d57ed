"""The document of a registry auth: credentials that image pulls use, by id.

The password comes in once and is never shown: it is sealed in KV, and opened only by a node agent
that pulls.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from penstock_common.document_parsing import parse_document

#: Name under which the password is sealed; the message of a broken seal shows it.
PASSWORD = "password"  # noqa: S105 (the name of a field)


class RegistryAuthSpec(BaseModel):
    """What a person writes."""

    # A value in an error's text could be the password.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    #: for people
    name: Annotated[str, Field(min_length=1, max_length=100)]
    username: Annotated[str, Field(min_length=1, max_length=500)]
    #: or a token; write-only
    password: Annotated[str, Field(min_length=1, max_length=16_384, repr=False)]


def parse_registry_auth(document: object) -> RegistryAuthSpec:
    """The spec in this JSON value.

    Raises:
        InvalidDocumentError: with every problem found; no message holds a value.
    """
    return parse_document(RegistryAuthSpec, document)
