"""What the shell completes a value with; what finds it is loaded when the shell asks."""

from collections.abc import Callable
from typing import Final

import typer

from penstock_cli.late_commands import load_function

#: A name, and what is said beside it.
Candidate = tuple[str, str]
Completer = Callable[[typer.Context, str], list[Candidate]]


def _late(name: str) -> Completer:
    """The completer of this name in `names`."""

    def complete(ctx: typer.Context, incomplete: str) -> list[Candidate]:
        completer: Completer = load_function(f"names:{name}")
        return completer(ctx, incomplete)

    return complete


complete_contexts: Final = _late("contexts")
complete_endpoints: Final = _late("endpoints")
complete_nodes: Final = _late("nodes")
complete_workers: Final = _late("workers")
complete_volumes: Final = _late("volumes")
complete_prewarms: Final = _late("prewarms")
complete_registry_auths: Final = _late("registry_auths")
complete_webhooks: Final = _late("webhooks")
complete_keys: Final = _late("keys")
