"""`penstock volume`: network volumes."""

from typing import Annotated, Any

import typer

from penstock_cli.completion import complete_volumes
from penstock_cli.exits import CliError
from penstock_cli.input.documents import read_document
from penstock_cli.options import FileOption
from penstock_cli.output.storage import print_volumes
from penstock_cli.session import Session, with_session

VolumeArgument = Annotated[
    str, typer.Argument(metavar="VOLUME", help="Its id.", autocompletion=complete_volumes)
]


@with_session
def create_volume(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="For people.")] = None,
    nfs: Annotated[
        str | None,
        typer.Option(
            "--nfs", metavar="SERVER:/PATH", help="An exported directory.", show_default=False
        ),
    ] = None,
    nfs_options: Annotated[
        str | None,
        typer.Option("--nfs-options", metavar="OPTIONS", help="Mount options.", show_default=False),
    ] = None,
    host_path: Annotated[
        str | None,
        typer.Option(
            "--host-path",
            metavar="/PATH",
            help="A directory that every node has there.",
            show_default=False,
        ),
    ] = None,
    file: FileOption = None,
) -> None:
    """Make a network volume known; nothing is written to it."""
    document = read_document(file) if file is not None else {}
    if name is not None:
        document["name"] = name
    source = _source(nfs, nfs_options, host_path)
    if source is not None:
        document["source"] = source
    if not document.get("name") or not document.get("source"):
        raise CliError("give a NAME and one of --nfs, --host-path; or a document with -f")
    made = session.ask(lambda client: client.volumes.create(document))
    session.tell(made, f"made {made.id} ({made.name})")


def _source(nfs: str | None, options: str | None, host_path: str | None) -> dict[str, Any] | None:
    if nfs is not None and host_path is not None:
        raise CliError("give --nfs or --host-path, not both")
    if nfs is None and options is not None:
        raise CliError("--nfs-options goes with --nfs")
    if host_path is not None:
        return {"type": "host_path", "path": host_path}
    if nfs is None:
        return None
    server, colon, path = nfs.rpartition(":")
    if not colon or not server:
        raise CliError(f"--nfs takes SERVER:/PATH, not '{nfs}'")
    source = {"type": "nfs", "server": server, "path": path}
    return source if options is None else {**source, "options": options}


@with_session
def list_volumes(
    session: Session,
) -> None:
    """List the network volumes."""
    listed = session.ask(lambda client: client.volumes.list().whole())
    session.show(listed, lambda listed: print_volumes(listed.volumes))


@with_session
def show_volume(
    session: Session,
    volume: VolumeArgument,
) -> None:
    """Show a network volume."""
    shown = session.ask(lambda client: client.volumes.show(volume))
    session.show(shown, lambda shown: print_volumes((shown,)))


@with_session
def rename_volume(
    session: Session,
    volume: VolumeArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new one.")],
) -> None:
    """Give a network volume another name."""
    changed = session.ask(lambda client: client.volumes.rename(volume, name))
    session.tell(changed, f"{changed.id} is called {changed.name}")


@with_session
def delete_volume(
    session: Session,
    volume: VolumeArgument,
) -> None:
    """Forget a network volume that nothing uses; its data stay where they lie."""
    removed = session.ask(lambda client: client.volumes.delete(volume))
    session.tell(removed, f"forgot {removed.id} ({removed.name}); its data stay")
