from typing import Any

import pytest
from pydantic import ValidationError

from penstock_node_agent.settings import Settings

P = "PENSTOCK_NODE_AGENT_"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return make


def test_variables_are_read(made: Any) -> None:
    settings = made(
        **{
            P + "NATS_URL": "nats://127.0.0.1:1",
            P + "LABELS": "zone=a, rack=7",
            P + "GPUS": "2 x t4-16gb",
            P + "PROCESS_PORTS": "21000-21009",
            P + "NODE_ID": "node-a",
            P + "VOLUME_PATHS": "/mnt/shared, /srv/data",
            "PATH": "/somewhere/bin",
            "HOME": "/home/me",
        }
    )
    assert settings.nats_url == "nats://127.0.0.1:1"
    assert settings.labels == {"zone": "a", "rack": "7"}
    assert settings.volume_paths == ("/mnt/shared", "/srv/data")
    assert settings.port_range == range(21000, 21010)
    assert (settings.process_path, settings.process_home) == ("/somewhere/bin", "/home/me")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GPUS", "many"),
        ("LABELS", "zone"),
        ("PROCESS_PORTS", "9000"),
        ("PROCESS_PORTS", "30000-20000"),
        ("NODE_ID", "Node_A"),
        ("RUNTIME", "podman"),
        ("VOLUME_PATHS", "mnt/shared"),
        ("VOLUME_PATHS", "/mnt/../etc"),
        ("VOLUME_NFS", "perhaps"),
    ],
)
def test_nonsense_is_refused(made: Any, name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        made(**{P + name: value})
