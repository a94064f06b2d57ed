"""`penstock init`: the keys of an installation whose parts something else starts."""

from pathlib import Path
from typing import Annotated

import typer

from penstock_cli.exits import CliError
from penstock_cli.local.data_dir import DataDir, DataDirBusyError


def init(
    data: Annotated[
        Path, typer.Option(envvar="PENSTOCK_DATA", metavar="DIR", help="Where they are kept.")
    ],
    nats_host: Annotated[str, typer.Option(help="Address that NATS listens on.")] = "127.0.0.1",
    nats_port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 4222,
    nats_monitor_port: Annotated[
        int, typer.Option(min=1, max=65535, help="On 127.0.0.1, without a password.")
    ] = 8222,
) -> None:
    """Make the keys and the NATS configuration that `penstock up` makes, and start nothing.

    Keys that are there stay as they are.
    """
    try:
        with DataDir(data) as folder:
            made = [
                folder.admin_key_file,
                folder.secret_key_file,
                *folder.nats_password_files.values(),
                folder.write_nats_config(nats_host, nats_port, nats_monitor_port),
            ]
    except DataDirBusyError as error:
        raise CliError(str(error)) from None
    except OSError as error:
        raise CliError(f"cannot use {data}: {error}; choose another --data") from None
    for path in made:
        typer.echo(path)
