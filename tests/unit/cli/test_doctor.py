"""What the doctor makes of what it sees."""

from datetime import UTC, datetime, timedelta

import pytest

from penstock_cli.doctor.findings import (
    Answer,
    Finding,
    clock_skew_s,
    judge_api,
    judge_disk,
    judge_driver,
    judge_engine,
    judge_nodes,
    judge_port,
    judge_secret_key,
    judge_server,
)
from penstock_common.sealing import new_key

URL = "http://127.0.0.1:8000"
WELL = Answer(200, document={"status": "ok"}, skew_s=0.2)
NODES = Answer(200, document={"nodes": []})


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.level for finding in findings}


def test_an_api_that_is_well() -> None:
    assert levels(judge_api(URL, WELL, NODES)) == {"api": "ok", "clock": "ok"}


@pytest.mark.parametrize(
    ("ready", "nodes", "seen"),
    [
        (Answer(error="Connection refused"), Answer(), "does not answer: Connection refused"),
        (Answer(503, document={"detail": "waiting for nats"}), Answer(), "waiting for nats"),
        (Answer(200), Answer(401), "refuses the key (401)"),
        (Answer(502), Answer(), "is not ready (502)"),
    ],
)
def test_an_api_that_is_not(ready: Answer, nodes: Answer, seen: str) -> None:
    (finding,) = judge_api(URL, ready, nodes)
    assert finding.level == "problem"
    assert seen in finding.seen
    assert finding.mend


@pytest.mark.parametrize(
    ("skew_s", "level"),
    [(0.0, "ok"), (1.5, "ok"), (-1.5, "ok"), (1.6, "problem"), (-90.0, "problem")],
)
def test_clocks_may_differ_by_a_second(skew_s: float, level: str) -> None:
    ready = Answer(200, skew_s=skew_s)
    assert levels(judge_api(URL, ready, NODES))["clock"] == level


@pytest.mark.parametrize(
    ("told_s", "skew_s"),
    [(0, 0.0), (3, 0.0), (9, 0.0), (-4, -3.5), (14, 4.5)],
)
def test_an_answer_that_takes_long_is_no_other_time(told_s: int, skew_s: float) -> None:
    asked = datetime(2026, 1, 1, tzinfo=UTC)
    told, answered = asked + timedelta(seconds=told_s), asked + timedelta(seconds=10)
    assert clock_skew_s(told, asked=asked, answered=answered) == skew_s


def test_an_installation_without_nodes_starts_nothing() -> None:
    (finding,) = judge_nodes(())
    assert finding.level == "problem"
    assert "penstock node join" in finding.mend


def test_an_engine_without_a_way_to_gpus_is_a_problem_only_where_there_are_gpus() -> None:
    info = Answer(200, document={"ServerVersion": "28.1", "Driver": "overlay2", "Runtimes": {}})
    assert levels(judge_engine(info, has_gpus=False)) == {"docker": "ok"}
    assert levels(judge_engine(info, has_gpus=True))["docker gpus"] == "problem"


@pytest.mark.parametrize(
    ("more", "way"),
    [
        ({"Runtimes": {"nvidia": {}}}, "the runtime nvidia"),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, "CDI"),
    ],
)
def test_each_way_to_gpus_is_known(more: dict[str, object], way: str) -> None:
    findings = judge_engine(Answer(200, document=more), has_gpus=True)
    assert levels(findings)["docker gpus"] == "ok"
    assert way in findings[1].seen


def test_no_engine_is_no_problem_where_workers_are_processes() -> None:
    assert levels(judge_engine(Answer(error="no such file"), has_gpus=True)) == {
        "docker": "warning"
    }


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (judge_driver(None), "warning"),
        (judge_driver([]), "problem"),
        (judge_driver(["NVIDIA L4, 580.1"]), "ok"),
        (judge_port("nats", "127.0.0.1:4222", True), "ok"),
        (judge_port("nats", "127.0.0.1:4222", False), "problem"),
        (judge_server(None), "warning"),
        (judge_server("/usr/bin/nats-server"), "ok"),
        (judge_disk("disk", "/", 50 * 10**9, 100 * 10**9), "ok"),
        (judge_disk("disk", "/", 9 * 10**9, 1_000 * 10**9), "problem"),
        (judge_disk("disk", "/", 3 * 10**9, 20 * 10**9), "ok"),
        (judge_disk("disk", "/", 1 * 10**9, 20 * 10**9), "problem"),
    ],
)
def test_the_rest(finding: Finding, level: str) -> None:
    assert finding.level == level
    assert bool(finding.mend) == (level != "ok")


def test_the_key_of_secrets_is_one_and_its_owners_alone() -> None:
    key, other = new_key(), new_key()

    def level(given: str, kept: str | None, mode: int = 0o600) -> str | None:
        found = judge_secret_key(given, "/data/secret.key", kept, mode)
        if found is None:
            return None
        assert key not in found.seen + found.mend
        return found.level

    assert level("", None) is None
    assert level("", key) == level(key, None) == level(key, key) == "ok"
    assert level(key, other) == "problem"
    assert level("", key[:-3]) == level("nonsense", None) == "problem"
    assert level("", key, 0o644) == "problem"
