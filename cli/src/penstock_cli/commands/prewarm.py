"""`penstock prewarm`: images that are to be on nodes ahead of need."""

from typing import Annotated

import typer

from penstock_cli.completion import complete_nodes, complete_prewarms, complete_registry_auths
from penstock_cli.output.storage import print_prewarm, print_prewarms
from penstock_cli.session import Session, with_session

PrewarmArgument = Annotated[
    str, typer.Argument(metavar="PREWARM", help="Its id.", autocompletion=complete_prewarms)
]


@with_session
def create_prewarm(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image reference.")],
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="NODE",
            help="Only this node; may be repeated.",
            autocompletion=complete_nodes,
        ),
    ] = None,
    product: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu", metavar="PRODUCT", help="Only nodes with such a GPU; may be repeated."
        ),
    ] = None,
    registry_auth: Annotated[
        str | None,
        typer.Option(
            "--registry-auth",
            metavar="ID",
            help="Pull with it.",
            show_default=False,
            autocompletion=complete_registry_auths,
        ),
    ] = None,
) -> None:
    """Have an image pulled to nodes, now and to those that join later."""
    document = {
        "image": image,
        "registry_auth_id": registry_auth,
        "nodes": node or [],
        "products": product or [],
    }
    made = session.ask(lambda client: client.prewarms.create(document))
    nodes = len(made.progress)
    session.tell(
        made,
        f"made {made.id}: {made.image} on {nodes} node{'' if nodes == 1 else 's'} so far",
    )


@with_session
def list_prewarms(
    session: Session,
) -> None:
    """List the prewarms."""
    listed = session.ask(lambda client: client.prewarms.list().whole())
    session.show(listed, lambda listed: print_prewarms(listed.prewarms))


@with_session
def show_prewarm(
    session: Session,
    prewarm: PrewarmArgument,
) -> None:
    """Show how far each node is."""
    shown = session.ask(lambda client: client.prewarms.show(prewarm))
    session.show(shown, print_prewarm)


@with_session
def delete_prewarm(
    session: Session,
    prewarm: PrewarmArgument,
) -> None:
    """Forget a prewarm; its image may be cleaned up from then on."""
    removed = session.ask(lambda client: client.prewarms.delete(prewarm))
    session.tell(removed, f"forgot {removed.id} ({removed.image})")
