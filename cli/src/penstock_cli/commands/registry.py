"""`penstock registry`: credentials that image pulls use."""

import os
import sys
from typing import Annotated, Final

import typer

from penstock_cli.completion import complete_registry_auths
from penstock_cli.exits import CliError
from penstock_cli.output.printing import print_rows
from penstock_cli.session import Session, with_session
from penstock_client.documents import RegistryAuthDocument

PASSWORD_VARIABLE: Final = "PENSTOCK_REGISTRY_PASSWORD"  # noqa: S105 - the name of a variable

RegistryAuthArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Of the credentials.", autocompletion=complete_registry_auths
    ),
]


@with_session
def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people.")],
    username: Annotated[
        str, typer.Option("--username", "-u", metavar="NAME", help="As the registry knows it.")
    ],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Store the credentials of a registry; the password, or token, is never shown again.

    It comes from standard input, from PENSTOCK_REGISTRY_PASSWORD, or from a question at the
    terminal; never from the command line, which other users of the machine can read.
    """
    document = {"name": name, "username": username, "password": _password(password_stdin)}
    made = session.ask(lambda client: client.registry_auths.create(document))
    session.tell(made, f"made {made.id} ({made.name}); name it as image.registry_auth_id")


@with_session
def list_registry_auths(
    session: Session,
) -> None:
    """List the credentials, without passwords."""
    listed = session.ask(lambda client: client.registry_auths.list().whole())
    session.show(listed, lambda listed: _print_table(*listed.registry_auths))


@with_session
def show(
    session: Session,
    registry_auth: RegistryAuthArgument,
) -> None:
    """Show credentials, without the password."""
    shown = session.ask(lambda client: client.registry_auths.show(registry_auth))
    session.show(shown, _print_table)


@with_session
def delete(
    session: Session,
    registry_auth: RegistryAuthArgument,
) -> None:
    """Delete credentials that no endpoint names."""
    removed = session.ask(lambda client: client.registry_auths.delete(registry_auth))
    session.tell(removed, f"deleted {removed.id} ({removed.name})")


def _password(from_stdin: bool) -> str:
    """The password, from where a list of processes does not show it.

    Raises:
        CliError: there is none.
    """
    if from_stdin:
        # One newline at the end is the shell's, as `echo` and `docker login` have it.
        password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
        if not password:
            raise CliError("standard input holds no password")
        return password
    if password := os.environ.get(PASSWORD_VARIABLE, ""):
        return password
    if not sys.stdin.isatty():
        raise CliError(f"no password: give it by --password-stdin, or in {PASSWORD_VARIABLE}")
    answer: str = typer.prompt("Password", hide_input=True, err=True)
    return answer


def _print_table(*registry_auths: RegistryAuthDocument) -> None:
    print_rows(
        ("ID", "NAME", "USERNAME", "MADE"),
        (
            (auth.id, auth.name, auth.username, f"{auth.created_at:%Y-%m-%d}")
            for auth in registry_auths
        ),
        "no credentials; store some with `penstock registry create`",
    )
