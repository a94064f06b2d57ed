"""The compose files say the same where they mean the same."""

import re
from pathlib import Path

import pytest

from penstock_cli.local.data_dir import nats_password_name
from penstock_common.events.catalogue import Service

ROOT = Path(__file__).parents[3]
ONE = (ROOT / "docker-compose.yml").read_text()
CONTROL_PLANE = (ROOT / "deploy/compose/control-plane.yml").read_text()
GPU_NODE = (ROOT / "deploy/compose/gpu-node.yml").read_text()
#: What differs on purpose: where parts listen and are reached.
PLACES = re.compile(r"_HOST:|_ROUTER_URL:|NODE_NATS_URL:|penstock init|--nats-port|API_URL:")


def service(text: str, name: str) -> list[str]:
    """The lines of one service, without comments, as if it were on one machine."""
    block = re.search(rf"^  {name}:\n((?:(?:    .*)?\n)+)", text, re.MULTILINE)
    assert block is not None, name
    lines = block[1].replace("nats://${PENSTOCK_HOST}", "nats://127.0.0.1").replace("../..", ".")
    return [
        line
        for line in lines.splitlines()
        if line.strip() and not line.strip().startswith("#") and not PLACES.search(line)
    ]


@pytest.mark.parametrize("name", ["init", "nats", "api", "scheduler", "router", "cli"])
def test_the_control_plane_is_that_of_one_machine(name: str) -> None:
    assert service(CONTROL_PLANE, name) == service(ONE, name)


def test_a_gpu_node_is_hardened_as_on_one_machine() -> None:
    hard = re.compile(
        r"network_mode|pid:|read_only|tmpfs|security_opt|restart|image:|pull_policy|docker\.sock"
    )
    ones, nodes = (
        [line for line in service(text, "node-agent") if hard.search(line)]
        for text in (ONE, GPU_NODE)
    )
    assert ones == nodes


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/compose/control-plane.yml"])
def test_no_variable_stands_within_another(name: str) -> None:
    """The older docker-compose takes `${A:-${B}}` for text."""
    assert not re.search(r"\$\{[^}]*\$\{", (ROOT / name).read_text())


def test_no_image_is_pulled_unless_told() -> None:
    """Nobody has published images under these names: whoever did would run on people's hosts."""
    for text in (ONE, CONTROL_PLANE, GPU_NODE):
        assert (
            text.count("    image: ") == text.count("    pull_policy: ${PENSTOCK_PULL:-never}") > 0
        )


@pytest.mark.parametrize("user", Service)
def test_each_service_logs_in_as_itself_and_reads_its_own_password(user: Service) -> None:
    prefix = f"PENSTOCK_{user.upper().replace('-', '_')}_NATS"
    # A node agent on another host is told its own when it joins.
    files = [ONE] if user is Service.NODE_AGENT else [ONE, CONTROL_PLANE]
    for text in files:
        lines = [line.strip() for line in service(text, user)]
        assert f"{prefix}_USER: {user}" in lines
        (password,) = (line for line in lines if line.startswith(f"{prefix}_PASSWORD_FILE:"))
        assert password.endswith(f"/{nats_password_name(user)}")


def test_no_two_parts_of_the_control_plane_run_as_one_user() -> None:
    """Else each would open the other's password; NATS is the image's own user, 10001."""
    for text in (ONE, CONTROL_PLANE):
        users = {
            name: next(
                (line.split()[1] for line in service(text, name) if line.startswith("    user:")),
                "10001",
            )
            for name in ("nats", "api", "scheduler", "router")
        }
        assert len(set(users.values())) == len(users)
        init = "\n".join(service(text, "init"))
        for name in ("api", "scheduler", "router"):
            uid = users[name].strip('"').split(":")[0]
            assert re.search(rf"chown {uid}:10001 .*{re.escape(nats_password_name(name))}", init)
