"""What a command that asks the api is given: whom it asks, and how it prints the answer."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import typer

from penstock_cli.asking import ask
from penstock_cli.options import ApiOption, ContextOption, DataOption, JsonOption, YamlOption
from penstock_cli.output.documents import Form, form_of, print_document
from penstock_cli.output.printing import print_line
from penstock_cli.refusals import as_cli_error
from penstock_cli.target import Finder, Target, make_finder
from penstock_client.documents import Document
from penstock_client.errors import ApiError
from penstock_client.retrying import RetryPolicy
from penstock_client.sync.client import PenstockSyncClient
from penstock_common.errors import PenstockError

T = TypeVar("T")
D = TypeVar("D", bound=Document)
P = ParamSpec("P")

#: Longest look for a name like the one that there is not.
_LOOK_S: Final = 2.0
_ONCE: Final = RetryPolicy(max_attempts=1)
#: Reason of a 404 → the names that there are.
_LOOKS: Final[Mapping[str, Callable[[PenstockSyncClient], list[str]]]] = {
    "endpoint_not_found": lambda client: [e.app_name for e in client.endpoints.list()],
    "node_not_found": lambda client: [node.id for node in client.nodes.list()],
    "volume_not_found": lambda client: [volume.id for volume in client.volumes.list()],
}


class Session:
    """One run of a command: the api that it asks, and the form of what it prints."""

    def __init__(self, finder: Finder, form: Form) -> None:
        self._finder = finder
        self.form = form

    @property
    def data(self) -> Path:
        """The data directory of `penstock up`; need not exist."""
        return self._finder.data

    def find_target(self, *, needs_key: bool = True) -> Target:
        """The api and the key.

        Args:
            needs_key: false = an empty key when there is none.

        Raises:
            CliError: there is no key, no such context, or no usable URL.
        """
        return self._finder.find(needs_key=needs_key)

    def ask(self, question: Callable[[PenstockSyncClient], T]) -> T:
        """What the api answers.

        Raises:
            CliError: it refused, cannot be reached, or there is no key for it.
        """
        target = self.find_target()
        with self.refusals_told():
            return ask(target.url, target.key, question)

    @contextlib.contextmanager
    def refusals_told(self) -> Iterator[None]:
        """What the client raises inside becomes what a person reads.

        Raises:
            CliError: the api refused, or cannot be reached.
        """
        try:
            yield
        except ApiError as error:
            target = self.find_target()
            names = _names_like(target, error.reason)
            raise as_cli_error(error, target.named_by, names) from None
        except PenstockError as error:
            raise as_cli_error(error, self.find_target().named_by) from None

    def show(self, document: D, text: Callable[[D], None]) -> None:
        """Print a document in the form that was asked for; `text` prints it for a person."""
        if self.form is Form.TEXT:
            text(document)
        else:
            print_document(document.raw, self.form)

    def tell(self, document: Document, sentence: str) -> None:
        """Print a document, or for a person the sentence that says what was done."""
        self.show(document, lambda _: print_line(sentence))


def _names_like(target: Target, reason: str) -> list[str]:
    """Names among which the one may be that a 404 with this reason did not find."""
    look = _LOOKS.get(reason)
    if look is None:
        return []
    try:
        return ask(target.url, target.key, look, timeout_s=_LOOK_S, retry=_ONCE)
    except PenstockError:
        return []  # the person is told what there is not; only the likeness is missing


def with_session(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Give a command its session, and the options that say what it is.

    The command's first parameter is the session; typer sees `--json`, `--yaml`, `--context`,
    `--api` and `--data` in its place, behind the command's own options.
    """
    return _with(command, _FORMS | _PLACES)


def with_target(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """The same for a command that prints no document: without `--json` and `--yaml`."""
    return _with(command, _PLACES)


def _with(
    command: Callable[Concatenate[Session, P], None], options: Mapping[str, tuple[Any, object]]
) -> Callable[..., None]:
    @functools.wraps(command)
    def run(ctx: typer.Context, **given: Any) -> None:  # noqa: ANN401  # what typer has parsed
        told = {name: given.pop(name) for name in options}
        form = form_of(as_json=told.get("as_json", False), as_yaml=told.get("as_yaml", False))
        command(Session(make_finder(ctx), form), **given)  # type: ignore[call-arg]  # typer gives what the signature says

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    context = inspect.Parameter("ctx", _KEYWORD, annotation=typer.Context)
    added = [
        inspect.Parameter(name, _KEYWORD, annotation=annotation, default=default)
        for name, (annotation, default) in options.items()
    ]
    own = [parameter.replace(kind=_KEYWORD) for parameter in own]
    run.__signature__ = inspect.Signature([context, *own, *added])  # type: ignore[attr-defined]  # as PEP 362 has it
    return run


_KEYWORD: Final = inspect.Parameter.KEYWORD_ONLY
_FORMS: Final[dict[str, tuple[Any, object]]] = {
    "as_json": (JsonOption, False),
    "as_yaml": (YamlOption, False),
}
_PLACES: Final[dict[str, tuple[Any, object]]] = {
    "context": (ContextOption, None),
    "api": (ApiOption, None),
    "data": (DataOption, None),
}
