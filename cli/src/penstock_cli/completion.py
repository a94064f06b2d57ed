"""Completes names for the shell: quickly, or not at all, and without a word on the terminal."""

import contextlib
import io
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import typer

from penstock_cli.asking import ask
from penstock_cli.contexts.config_file import config_path, read_config
from penstock_cli.exits import CliError
from penstock_cli.target import make_finder
from penstock_client.client import PenstockClient
from penstock_common.errors import PenstockError

#: Longest wait for the api, in seconds, unless PENSTOCK_COMPLETION_TIMEOUT_S says another.
ANSWER_S: Final = 1.0
TIMEOUT_VARIABLE: Final = "PENSTOCK_COMPLETION_TIMEOUT_S"

#: A name, and what is said beside it.
Candidate = tuple[str, str]
Completer = Callable[[typer.Context, str], list[Candidate]]


def _asking(question: Callable[[PenstockClient], AsyncIterator[Candidate]]) -> Completer:
    """A completer that asks the api; what goes wrong gives no names."""

    async def answer(client: PenstockClient) -> list[Candidate]:
        return [candidate async for candidate in question(client)]

    def complete(ctx: typer.Context, incomplete: str) -> list[Candidate]:
        with _quietly() as answer_s:
            target = make_finder(ctx).find()
            found = ask(target.url, target.key, answer, timeout_s=answer_s)
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


async def _endpoints(client: PenstockClient) -> AsyncIterator[Candidate]:
    async for endpoint in client.endpoints.list():
        yield endpoint.app_name, endpoint.state


async def _nodes(client: PenstockClient) -> AsyncIterator[Candidate]:
    async for node in client.nodes.list():
        yield node.id, node.state


async def _workers(client: PenstockClient) -> AsyncIterator[Candidate]:
    async for worker in client.workers.list():
        yield worker.id, f"{worker.state} on {worker.node_id}"


async def _volumes(client: PenstockClient) -> AsyncIterator[Candidate]:
    async for volume in client.volumes.list():
        yield volume.id, volume.name


async def _prewarms(client: PenstockClient) -> AsyncIterator[Candidate]:
    async for prewarm in client.prewarms.list():
        yield prewarm.id, prewarm.image


async def _registry_auths(client: PenstockClient) -> AsyncIterator[Candidate]:
    async for auth in client.registry_auths.list():
        yield auth.id, auth.name


async def _webhooks(client: PenstockClient) -> AsyncIterator[Candidate]:
    async for webhook in client.webhooks.list():
        yield webhook.id, webhook.url


async def _keys(client: PenstockClient) -> AsyncIterator[Candidate]:
    async for key in client.api_keys.list():
        yield key.id, key.name


complete_endpoints: Final = _asking(_endpoints)
complete_nodes: Final = _asking(_nodes)
complete_workers: Final = _asking(_workers)
complete_volumes: Final = _asking(_volumes)
complete_prewarms: Final = _asking(_prewarms)
complete_registry_auths: Final = _asking(_registry_auths)
complete_webhooks: Final = _asking(_webhooks)
complete_keys: Final = _asking(_keys)


def complete_contexts(incomplete: str) -> list[Candidate]:
    """Names of contexts, each with its api."""
    with _quietly():
        contexts = read_config(config_path(os.environ)).contexts
        return [(name, context.api) for name, context in contexts.items()]
    return []
