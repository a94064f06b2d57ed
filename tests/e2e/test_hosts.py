"""Three GPU hosts, agents that die at any time, and a fleet that grows and falls idle."""

import asyncio
import contextlib
import random
import shlex
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_engine import IMAGE
from tests.support.hosts import Host, hosts
from tests.support.installation import ROOT, Installation, eventually

GAUGE = (ROOT / "tests/support/gauge_worker.py").read_text().replace('"127.0.0.1"', '""')
COMMAND = shlex.join(["python3", "-c", GAUGE])
HOSTS, GPUS, MOST = 3, 8, 12
WORKERS = {"min": 0, "max": MOST, "max_concurrency": 2, "idle_timeout_s": 1}
pytestmark = [
    pytest.mark.docker,
    pytest.mark.nats,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


class Fleet:
    """The control plane, the hosts beside it, and what was seen of them."""

    def __init__(self, penstock: Installation, machines: Sequence[Host]) -> None:
        self.penstock = penstock
        self.hosts = machines
        #: (endpoint, status, reason of a refusal) → how many
        self.answers: Counter[tuple[str, int, str]] = Counter()
        self.kills: Counter[str] = Counter()
        self.assigned_twice: list[str] = []
        self.most_assigned = 0

    def settings(self) -> dict[str, str]:
        """What an agent needs to join."""
        data = self.penstock.data
        return {
            "NATS_URL": self.penstock.urls["nats"],
            "NATS_USER": "node-agent",
            "NATS_PASSWORD_FILE": str(data / "nats.node-agent.password"),
            "SECRET_KEY_FILE": str(data / "secret.key"),
            "GPUS": f"{GPUS} x rtx-4090-24gb",
            "LABELS": "kind=gpu",
        }

    async def ask(self, app: str, ms: int) -> None:
        """One request; its answer counts."""
        status, body = await self.penstock.get(app, f"/?ms={ms}")
        self.answers[app, status, f"{body.get('reason', '')} {body.get('detail', '')}"] += 1

    async def keep_asking(self, app: str, ms: int) -> None:
        """One client that asks for ever, one request after the other."""
        while True:
            await self.ask(app, ms)

    async def kill_agents(self, rng: random.Random, times: int) -> None:
        """Kill agents at random and start them again.

        A bounded number of times: on a busy machine an agent needs seconds to start, and one that is
        killed again and again comes to nothing.
        """
        for _ in range(times):
            host = rng.choice(self.hosts)
            if rng.random() < 0.7:  # else also while it starts

                async def serves(host: Host = host) -> bool:
                    return host.agent_serves()

                await eventually(serves, f"the agent of {host.name} serves", within_s=60)
            await asyncio.sleep(rng.uniform(0.2, 2.0))
            await to_its_end(self._kill_and_start(host, rng.uniform(0.0, 1.0)))

    async def _kill_and_start(self, host: Host, pause_s: float) -> None:
        await host.stop_agent(signal.SIGKILL)
        self.kills[host.name] += 1
        await asyncio.sleep(pause_s)
        await host.start_agent(self.settings())

    async def watch_assignments(self) -> None:
        """Look for a GPU that two workers were given, for ever."""
        while True:
            self._note_held(await self.penstock.workers("busy"))
            await asyncio.sleep(0.1)

    def _note_held(self, shown: Sequence[dict[str, Any]]) -> None:
        workers = [w for w in shown if w["state"] != "stopped"]
        held = Counter((w["node_id"], gpu) for w in workers for gpu in w["gpus"])
        self.assigned_twice += [f"{gpu} in {workers}" for gpu, n in held.items() if n > 1]
        self.most_assigned = max(self.most_assigned, len(held))

    async def tell(self) -> None:
        """Print what a failed test leaves to look at."""
        print(self.answers, self.kills)
        for worker in await self.penstock.workers("busy"):
            shown = ("id", "node_id", "gpus", "desired", "state", "reason", "message", "phases_ms")
            print({name: worker[name] for name in shown})
        for host in self.hosts:
            lines = (host.folder / "agent.log").read_text().splitlines()
            print(host.name, *(f"\n  {line[:400]}" for line in lines[-40:]))

    async def all_run(self) -> bool:
        """Whether as many workers run as there may be."""
        workers = await self.penstock.workers("busy")
        self._note_held(workers)
        return [w["state"] for w in workers].count("running") == MOST

    async def killed(self, more: int, before: int) -> None:
        """Wait until agents have died so many times more than before."""

        async def so_often() -> bool:
            return self.kills.total() >= before + more

        await eventually(so_often, f"agents died {more} times", within_s=120)


async def to_its_end(step: Coroutine[Any, Any, None]) -> None:
    """Take this step whole, also where the caller is cancelled in the middle of it.

    Else an agent that was killed as the test went on would never be started again.
    """
    taken = asyncio.ensure_future(step)
    try:
        await asyncio.shield(taken)
    except asyncio.CancelledError:
        await taken
        raise


@contextlib.asynccontextmanager
async def meanwhile(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """These run for ever beside the block; an error of theirs is the block's."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        yield
        for task in tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Three hosts with eight GPUs each, which have joined."""
    with hosts(HOSTS) as (address, machines):
        options = ("--host", address, "--runtime", "process", "--gpus", "none")
        # An agent that dies comes back; on a busy machine not always before its node counts as lost,
        # which is another story.
        env = {"PENSTOCK_SCHEDULER_LOST_AFTER_S": "60"}
        async with Installation(tmp_path / "data", *options, env=env) as penstock:
            made = Fleet(penstock, machines)
            for host in machines:
                await host.start_agent(made.settings())

            async def joined() -> bool:
                nodes = (await penstock.api("GET", "/v1/nodes"))["nodes"]
                free: int = sum(node["gpus_free"] for node in nodes)
                return free == HOSTS * GPUS

            await eventually(joined, "three hosts have joined", within_s=120)
            try:
                yield made
            except BaseException:
                await made.tell()
                raise


def shared_gpus(host: Host) -> list[str]:
    """GPUs that two containers of a host held at once, by the engine's and the runtime's word."""
    held = defaultdict(list)
    for container_id, life in host.lives.items():
        if life.started_ns is not None:
            end = life.ended_ns or 2**63
            for gpu in host.gpus(container_id):
                held[gpu].append((life.started_ns, end, container_id))
    return [
        f"{host.name} {gpu}: {first} and {second}"
        for gpu, lives in held.items()
        for first, second in pairwise(sorted(lives))
        if first[1] > second[0]
    ]


async def test_a_fleet_grows_and_falls_idle_while_agents_die(tmp_path: Path) -> None:
    rng = random.Random(20)
    async with fleet(tmp_path) as made:
        image = {"image": IMAGE, "command": COMMAND}
        penstock = made.penstock
        await penstock.deploy(
            "busy",
            COMMAND,
            image=image,
            gpu={"count": 2, "products": ["rtx-4090-24gb"]},
            workers=WORKERS,
            scaling={"type": "request_count", "value": 2},
        )
        await penstock.deploy(
            "warm",
            COMMAND,
            image=image,
            workers={"min": 1, "max": 1, "max_concurrency": 4},
            placement={"node_selector": {"kind": "gpu"}},
        )
        await made.ask("warm", 0)
        clients = 2 * MOST
        async with meanwhile(made.keep_asking("warm", 50), made.watch_assignments()):
            for _ in range(2):
                load = [made.keep_asking("busy", 200) for _ in range(clients)]
                before = made.kills.total()
                async with meanwhile(made.kill_agents(rng, 6), *load):
                    await eventually(made.all_run, "twelve workers run", within_s=120)
                    await made.killed(2, before)  # however fast they came
                before = made.kills.total()
                async with meanwhile(made.kill_agents(rng, 4)):
                    await penstock.no_workers("busy", within_s=120)
                    await made.killed(1, before)

        assert {status for _, status, _ in made.answers} == {200}, made.answers
        assert made.kills.total() > 5
        assert not made.assigned_twice
        assert made.most_assigned == HOSTS * GPUS

        await penstock.api("DELETE", "/v1/endpoints/warm")

        async def nothing_left() -> bool:
            left = [await asyncio.to_thread(host.leftovers) for host in made.hosts]
            return not any(found for each in left for found in each.values())

        await eventually(nothing_left, "no container, volume or network is left", within_s=120)
        assert [gpu for host in made.hosts for gpu in shared_gpus(host)] == []
        started = [life for host in made.hosts for life in host.lives.values() if life.started_ns]
        assert len(started) >= 2 * MOST + 1
        for host in made.hosts:

            async def serves(host: Host = host) -> bool:
                return host.agent_serves()

            # It may have been killed a moment ago; one that only begins to start ends at once.
            await eventually(serves, f"the agent of {host.name} serves", within_s=60)
            assert await host.stop_agent(signal.SIGTERM) == 0
