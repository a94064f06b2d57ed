"""`penstock registry`: credentials that image pulls use."""

import sys
from typing import Annotated, Final

import typer

from penstock_cli.exits import CliError
from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption, JsonOption, ask, environment
from penstock_cli.output.printing import print_json, print_line, print_rows
from penstock_client.documents import RegistryAuthDocument

registry_app = typer.Typer(help="Credentials of image registries, for pulls.", no_args_is_help=True)

PASSWORD_VARIABLE: Final = "PENSTOCK_REGISTRY_PASSWORD"  # noqa: S105 - the name of a variable

RegistryAuthArgument = Annotated[str, typer.Argument(metavar="ID", help="Of the credentials.")]


@registry_app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people.")],
    username: Annotated[
        str, typer.Option("--username", "-u", metavar="NAME", help="As the registry knows it.")
    ],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Store the credentials of a registry; the password, or token, is never shown again.

    It comes from standard input, from PENSTOCK_REGISTRY_PASSWORD, or from a question at the
    terminal; never from the command line, which other users of the machine can read.
    """
    document = {"name": name, "username": username, "password": _password(password_stdin)}
    made = ask(api, data, lambda client: client.registry_auths.create(document))
    if as_json:
        print_json(made)
    else:
        print_line(f"made {made.id} ({made.name}); name it as image.registry_auth_id")


@registry_app.command("list")
def list_registry_auths(
    as_json: JsonOption = False, api: ApiOption = None, data: DataOption = DEFAULT_DATA
) -> None:
    """List the credentials, without passwords."""
    listed = ask(api, data, lambda client: client.registry_auths.list().whole())
    if as_json:
        print_json(listed)
    else:
        _print_table(*listed.registry_auths)


@registry_app.command()
def show(
    registry_auth: RegistryAuthArgument,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Show credentials, without the password."""
    shown = ask(api, data, lambda client: client.registry_auths.show(registry_auth))
    if as_json:
        print_json(shown)
    else:
        _print_table(shown)


@registry_app.command()
def delete(
    registry_auth: RegistryAuthArgument,
    as_json: JsonOption = False,
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Delete credentials that no endpoint names."""
    removed = ask(api, data, lambda client: client.registry_auths.delete(registry_auth))
    if as_json:
        print_json(removed)
    else:
        print_line(f"deleted {removed.id} ({removed.name})")


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
    if password := environment().get(PASSWORD_VARIABLE, ""):
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
