"""Contexts: names for installations, with the URL of the api and where its key is [pure]."""

from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

#: What a context may be called.
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"


class ConfigError(Exception):
    """The configuration makes no sense; a line for each thing wrong, none with a value."""


def check_url(url: str) -> str:
    """The URL of an api, without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("is no URL of an api; it begins with http:// or https://")
    return url.rstrip("/")


class Context(BaseModel):
    """One installation: its api, and a key or where to find one."""

    # A value in an error's text could be the key.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    api: Annotated[str, AfterValidator(check_url)]
    #: the key itself
    key: Annotated[str | None, Field(min_length=1, repr=False)] = None
    #: path of a file that holds it, such as an `admin.key`
    key_file: Annotated[str | None, Field(min_length=1)] = None
    #: name of an environment variable that holds it
    key_env: Annotated[str | None, Field(min_length=1)] = None

    @model_validator(mode="after")
    def _check_one_key(self) -> Self:
        if len([k for k in (self.key, self.key_file, self.key_env) if k is not None]) > 1:
            raise ValueError("give one of key, key_file and key_env")
        return self

    @property
    def key_source(self) -> str:
        """Where the key comes from, in words that do not tell it."""
        if self.key_file is not None:
            return f"file {self.key_file}"
        if self.key_env is not None:
            return f"variable {self.key_env}"
        return "none" if self.key is None else "stored"


class Config(BaseModel):
    """The configuration of a person's `penstock` command."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    #: the context of commands that name none
    current: str | None = None
    contexts: Mapping[Annotated[str, Field(pattern=NAME_PATTERN)], Context] = {}

    @classmethod
    def of(cls, document: object) -> Self:
        """The configuration in this JSON value; None = an empty one.

        Raises:
            ConfigError: it makes no sense.
        """
        try:
            return cls.model_validate({} if document is None else document)
        except ValidationError as error:
            lines = (
                f"{'.'.join(map(str, found['loc'])) or 'the document'}: {found['msg']}"
                for found in error.errors(include_input=False, include_url=False)
            )
            raise ConfigError("\n".join(lines)) from None

    def document(self) -> dict[str, object]:
        """It as a JSON value, without what is not said."""
        return self.model_dump(exclude_none=True)

    def with_context(self, name: str, context: Context, *, use: bool) -> Self:
        """With this context under this name; `use` makes it the current one."""
        current = name if use else self.current
        return self.model_copy(
            update={"contexts": {**self.contexts, name: context}, "current": current}
        )

    def without(self, name: str) -> Self:
        """Without the context of this name; there is no current one if it was that."""
        left = {other: context for other, context in self.contexts.items() if other != name}
        current = None if self.current == name else self.current
        return self.model_copy(update={"contexts": left, "current": current})

    def using(self, name: str | None) -> Self:
        """With this one as the current context."""
        return self.model_copy(update={"current": name})
