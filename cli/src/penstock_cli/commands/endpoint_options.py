"""Arguments and flags of the `penstock endpoint` commands, as typer reads them."""

from typing import Annotated

import typer

from penstock_cli.completion import complete_endpoints

App = Annotated[
    str,
    typer.Argument(
        metavar="APP",
        help="app_name or id of the endpoint.",
        show_default=False,
        autocompletion=complete_endpoints,
    ),
]
Name = Annotated[str | None, typer.Option(help="Display name.", metavar="TEXT", show_default=False)]
AppName = Annotated[
    str | None, typer.Option(help="First part of the URL.", metavar="LABEL", show_default=False)
]
Image = Annotated[
    str | None, typer.Option(help="Container image.", metavar="REFERENCE", show_default=False)
]
Command = Annotated[
    str | None,
    typer.Option(
        help="Arguments to the image; the command line for nodes without Docker.",
        metavar="WORDS",
        show_default=False,
    ),
]
Port = Annotated[
    int | None, typer.Option(help="Port the image listens on.", metavar="PORT", show_default=False)
]
Gpus = Annotated[
    int | None, typer.Option(help="GPUs per worker; 0 = none.", metavar="N", show_default=False)
]
GpuProduct = Annotated[
    list[str] | None,
    typer.Option(
        help="Acceptable GPU, e.g. rtx-4090-24gb; may be repeated.",
        metavar="PRODUCT",
        show_default=False,
    ),
]
Min = Annotated[
    int | None, typer.Option("--min", help="Fewest workers.", metavar="N", show_default=False)
]
Max = Annotated[
    int | None, typer.Option("--max", help="Most workers.", metavar="N", show_default=False)
]
Concurrency = Annotated[
    int | None, typer.Option(help="Requests at once per worker.", metavar="N", show_default=False)
]
IdleTimeout = Annotated[
    float | None,
    typer.Option(help="Seconds until an idle worker stops.", metavar="SECONDS", show_default=False),
]
Scale = Annotated[
    str | None,
    typer.Option(
        help="queue_delay=SECONDS or request_count=REQUESTS.",
        metavar="POLICY=VALUE",
        show_default=False,
    ),
]
HealthPath = Annotated[
    str | None,
    typer.Option(
        help="Path that answers 200 when ready; '' = the port.", metavar="PATH", show_default=False
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=value, or NAME from here; may be repeated.",
        metavar="NAME=VALUE",
        show_default=False,
    ),
]
Secret = Annotated[
    list[str] | None,
    typer.Option(help="As --env, but never shown again.", metavar="NAME=VALUE", show_default=False),
]
Public = Annotated[
    bool | None,
    typer.Option("--public/--private", help="Callers need no key.", show_default=False),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until it serves.")]
WaitGone = Annotated[bool, typer.Option("--wait", help="Wait until it is gone.")]
