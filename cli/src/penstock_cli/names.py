"""Names for the shell to complete: quickly, or not at all, and without a word on the terminal."""

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator
from typing import Final

import typer

from penstock_cli.asking import ask
from penstock_cli.completion import Candidate, Completer
from penstock_cli.contexts.config_file import config_path, read_config
from penstock_cli.exits import CliError
from penstock_cli.target import make_finder
from penstock_client.sync.client import PenstockSyncClient
from penstock_common.errors import PenstockError

#: Longest wait for the api, in seconds, unless PENSTOCK_COMPLETION_TIMEOUT_S says another.
ANSWER_S: Final = 1.0
TIMEOUT_VARIABLE: Final = "PENSTOCK_COMPLETION_TIMEOUT_S"


def _asking(question: Callable[[PenstockSyncClient], Iterator[Candidate]]) -> Completer:
    """A completer that asks the api; what goes wrong gives no names."""

    def complete(ctx: typer.Context, incomplete: str) -> list[Candidate]:
        with _quietly() as answer_s:
            target = make_finder(ctx).find()
            found = ask(
                target.url, target.key, lambda client: list(question(client)), timeout_s=answer_s
            )
            return [candidate for candidate in found if candidate[0].startswith(incomplete)]
        return []

    return complete


@contextlib.contextmanager
def _quietly() -> Iterator[float]:
    """Say nothing, and end in time: an error here would stand in the person's command line.

    Gives the longest wait for the api. After twice that the process ends, whatever still waits: the
    resolver of names cannot be interrupted.
    """
    answer_s = _answer_s(os.environ.get(TIMEOUT_VARIABLE, ""))
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, 2 * answer_s)
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(CliError, PenstockError, OSError),
    ):
        yield answer_s


def _answer_s(text: str) -> float:
    try:
        wanted = float(text)
    except ValueError:
        return ANSWER_S
    return wanted if 0 < wanted < 3600 else ANSWER_S


def _endpoints(client: PenstockSyncClient) -> Iterator[Candidate]:
    return ((endpoint.app_name, endpoint.state) for endpoint in client.endpoints.list())


def _nodes(client: PenstockSyncClient) -> Iterator[Candidate]:
    return ((node.id, node.state) for node in client.nodes.list())


def _workers(client: PenstockSyncClient) -> Iterator[Candidate]:
    return ((w.id, f"{w.state} on {w.node_id}") for w in client.workers.list())


def _volumes(client: PenstockSyncClient) -> Iterator[Candidate]:
    return ((volume.id, volume.name) for volume in client.volumes.list())


def _prewarms(client: PenstockSyncClient) -> Iterator[Candidate]:
    return ((prewarm.id, prewarm.image) for prewarm in client.prewarms.list())


def _registry_auths(client: PenstockSyncClient) -> Iterator[Candidate]:
    return ((auth.id, auth.name) for auth in client.registry_auths.list())


def _webhooks(client: PenstockSyncClient) -> Iterator[Candidate]:
    return ((webhook.id, webhook.url) for webhook in client.webhooks.list())


def _keys(client: PenstockSyncClient) -> Iterator[Candidate]:
    return ((key.id, key.name) for key in client.api_keys.list())


endpoints: Final = _asking(_endpoints)
nodes: Final = _asking(_nodes)
workers: Final = _asking(_workers)
volumes: Final = _asking(_volumes)
prewarms: Final = _asking(_prewarms)
registry_auths: Final = _asking(_registry_auths)
webhooks: Final = _asking(_webhooks)
keys: Final = _asking(_keys)


def contexts(_: typer.Context, incomplete: str) -> list[Candidate]:
    """Names of contexts, each with its api."""
    with _quietly():
        found = read_config(config_path(os.environ)).contexts
        named = ((name, context.api) for name, context in found.items())
        return [candidate for candidate in named if candidate[0].startswith(incomplete)]
    return []
