"""Wire types: each survives its encoding, ignores what a newer Penstock adds, and is immutable."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock_common import messages
from penstock_common.messages import (
    ApiKeyRecord,
    Attempt,
    AuditChange,
    AuditRecord,
    AuditTarget,
    Canary,
    Claim,
    DeliveryRecord,
    DeliveryState,
    EarlierFilter,
    EndpointNews,
    EndpointRecord,
    EndpointStatus,
    EngineProblem,
    Gpu,
    GpuNews,
    GpuReading,
    Grant,
    GrantReply,
    HealthProblem,
    HeldLeases,
    ImageRemoved,
    JoinedHost,
    JoinTokenRecord,
    LentSlot,
    LogBatch,
    LogGap,
    LogLine,
    Message,
    NodeDrained,
    NodeLost,
    NodeOrder,
    NodeOrdered,
    NodeRecord,
    PrewarmRecord,
    PrewarmState,
    PrewarmStatus,
    QueueReport,
    Recall,
    RegistryAuthRecord,
    Release,
    RepeatRecord,
    RevisionRecord,
    RouterRecord,
    ScaleDecided,
    ScaleDecision,
    ScaleHistory,
    ScaleInputs,
    Sight,
    Tally,
    TemplateRecord,
    Ticket,
    UsageRecord,
    VolumeRecord,
    WebhookFilter,
    WebhookRecord,
    WebhookStatus,
    WorkerAssigned,
    WorkerAssignment,
    WorkerLoad,
    WorkerOrder,
    WorkerStatus,
)
from penstock_common.specs import parse_endpoint
from penstock_common.states import (
    DesiredState,
    EndpointReason,
    EndpointState,
    GpuReason,
    NodeWish,
    Phase,
    WorkerReason,
    WorkerState,
)
from penstock_common.volumes import NfsSource

AT = datetime(2030, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
SPEC = parse_endpoint({"name": "n", "app_name": "a", "image": {"command": "x"}, "env": {"A": "b"}})

EXAMPLES: list[Message] = [
    NodeOrder(node_id="node-a", wish=NodeWish.DRAINING, reason="fan", at=AT, deadline_at=AT),
    WorkerOrder(
        worker_id="wk-1",
        node_id="node-a",
        endpoint_id="ep-1",
        reason="hangs",
        at=AT,
        deadline_at=AT,
    ),
    EndpointRecord(endpoint_id="ep-1", revision=2, created_at=AT, updated_at=AT, spec=SPEC),
    EndpointRecord(
        endpoint_id="ep-1",
        revision=4,
        created_at=AT,
        updated_at=AT,
        spec=SPEC,
        canary=Canary(percent=10, stable=3, same_as=(1,), spec=SPEC),
    ),
    EndpointRecord(
        endpoint_id="ep-1",
        revision=4,
        created_at=AT,
        updated_at=AT,
        spec=SPEC,
        canary=Canary(percent=10, stable=3, same_as=(1,), spec=SPEC),
    ),
    RevisionRecord(
        endpoint_id="ep-1", revision=3, created_at=AT, cause="updated", same_as=(1,), spec=SPEC
    ),
    EndpointStatus(
        endpoint_id="ep-1",
        state=EndpointState.FAILED,
        reason=EndpointReason.CRASH_BACKOFF,
        message="exit code 1",
        revision=2,
        retry_at=AT,
        exit_code=1,
        log_tail=("a", "b"),
        fencing_token=7,
        updated_at=AT,
    ),
    ScaleHistory(
        endpoint_id="ep-1",
        decisions=(
            ScaleDecision(
                at=AT,
                before=2,
                after=5,
                why="2 → 5: 14 waiting",
                inputs=ScaleInputs(
                    policy="queue_delay",
                    value=2,
                    least=0,
                    most=9,
                    waiting=14,
                    oldest_wait_s=3.1,
                    in_flight=2,
                    running=2,
                    starting=0,
                    arrivals_per_s=1.5,
                    window_s=60,
                    burst=False,
                    start_s=10,
                ),
            ),
        ),
        fencing_token=7,
    ),
    WorkerAssignment(
        worker_id="wk-1",
        node_id="node-1",
        endpoint_id="ep-1",
        revision=1,
        gpus=("GPU-1",),
        driver="rt-1",
        desired=DesiredState.DRAINING,
        reason=WorkerReason.IDLE,
        fencing_token=7,
        decided_at=AT,
        assigned_at=AT,
        spec=SPEC,
    ),
    WorkerStatus(
        worker_id="wk-1",
        node_id="node-1",
        endpoint_id="ep-1",
        revision=1,
        state=WorkerState.RUNNING,
        host="127.0.0.1",
        port=1,
        phases={Phase.DECIDED: AT, Phase.HEALTHY: AT},
        updated_at=AT,
    ),
    EndpointNews.of(
        EndpointRecord(
            endpoint_id="ep-1",
            revision=4,
            created_at=AT,
            updated_at=AT,
            spec=SPEC,
            canary=Canary(percent=10, stable=3, same_as=(1,), spec=SPEC),
        )
    ),
    ScaleDecided(endpoint_id="ep-1", at=AT, before=1, after=0, why="1 → 0: idle for 10 s"),
    WorkerAssigned(
        worker_id="wk-1", endpoint_id="ep-1", node_id="node-1", revision=1, gpus=("GPU-1",)
    ),
    NodeOrdered(
        node_id="node-1",
        order=NodeOrder(node_id="node-1", wish=NodeWish.CORDONED, reason="fan", at=AT),
    ),
    NodeDrained(node_id="node-1"),
    NodeLost(node_id="node-1", workers=2),
    GpuNews(
        node_id="node-1",
        hostname="h",
        gpu=Gpu(uuid="GPU-1", product="rtx-4090-24gb", vram_bytes=1),
        before=GpuReason.NOT_ANSWERING,
    ),
    NodeRecord(
        node_id="node-1",
        hostname="h",
        address="127.0.0.1",
        runtime="process",
        gpus=(Gpu(uuid="GPU-1", product="rtx-4090-24gb", vram_bytes=1, reason=GpuReason.LOST),),
        gpu_readings={"GPU-1": GpuReading(power_w=71.5, xids=(31,))},
        cpu_count=1,
        memory_bytes=1,
        disk_free_bytes=1,
        labels={"a": "b"},
        version="1",
        started_at=AT,
        beat=3,
    ),
    RouterRecord(
        router_id="rt-1", hostname="h", url="http://x", version="1", started_at=AT, beat=1
    ),
    RepeatRecord(fingerprint="0" * 64, sealed={"answer": "gAAA"}),
    WebhookRecord(
        webhook_id="wh-1",
        url="https://example.com/hook",
        filter=WebhookFilter(event_types=("penstock.worker.",), endpoints=("ep-1",)),
        earlier=(EarlierFilter(filter=WebhookFilter(), until=AT),),
        since=AT,
        sealed={"current": "gAAA", "previous": "gAAA"},
        previous_until=AT,
        created_at=AT,
        updated_at=AT,
    ),
    WebhookStatus(webhook_id="wh-1", failing_since=AT, last_error="no answer", updated_at=AT),
    DeliveryRecord(
        webhook_id="wh-1",
        event_id="ev-1",
        event_type="penstock.worker.failed",
        about="wk-1",
        event_time=AT,
        event_sequence=7,
        state=DeliveryState.WAITING,
        attempts=(Attempt(n=1, at=AT, duration_s=0.25, status=500, error="500", response="no"),),
        next_try_at=AT,
        updated_at=AT,
    ),
    RegistryAuthRecord(
        registry_auth_id="ra-1",
        name="ours",
        username="robot",
        sealed={"password": "gAAA"},
        created_at=AT,
    ),
    TemplateRecord(
        template_id="tpl-1",
        name="llama",
        image="a/b:1",
        command=("serve", "--model", "m"),
        env={"A": "1"},
        container_disk_gb=50,
        volume_mount_path="/workspace",
        ports=("8000/http",),
        created_at=AT,
    ),
    VolumeRecord(
        volume_id="vol-1",
        name="models",
        source=NfsSource(type="nfs", server="nas", path="/export"),
        created_at=AT,
        updated_at=AT,
    ),
    ImageRemoved(
        node_id="node-1",
        image_id="sha256:1",
        references=("a/b:1", "a/b@sha256:2"),
        size_bytes=7,
        disk_total_bytes=100,
        free_before_bytes=10,
        free_after_bytes=17,
    ),
    PrewarmRecord(prewarm_id="pw-1", image="a/b:1", products=("t4-16gb",), created_at=AT),
    PrewarmStatus(
        node_id="node-1",
        prewarm_id="pw-1",
        state=PrewarmState.PULLING,
        pull_bytes=1,
        pull_total_bytes=2,
        updated_at=AT,
    ),
    ApiKeyRecord(key_id="key-1", sha256="0" * 64, scope="invoke", created_at=AT),
    JoinTokenRecord(
        token_id="jt-1",
        sha256="0" * 64,
        labels={"rack": "7"},
        max_uses=2,
        uses=1,
        hosts=(JoinedHost(at=AT, hostname="gpu-1", address="10.0.0.2"),),
        created_at=AT,
        expires_at=AT,
        made_by="key-1",
    ),
    AuditRecord(
        audit_id="au-1",
        at=AT,
        last_at=AT,
        action="endpoints_update",
        route="PATCH /v1/endpoints/{endpoint}",
        targets=(AuditTarget(kind="endpoint", id="ep-1", name="echo"),),
        status=200,
        changes=(AuditChange(target="ep-1", pointer="/env/A", before=None, after="1"),),
    ),
    QueueReport(
        router_id="rt-1",
        endpoint_id="ep-1",
        sent_at=AT,
        waiting=1,
        oldest_wait_s=0.5,
        in_flight=2,
        arrivals_total=3,
        completions_total=4,
        service_time_s=0.1,
        workers=(
            WorkerLoad(
                worker_id="wk-1", in_flight=1, accepting=True, idle_s=0, assignment_revision=9
            ),
        ),
    ),
    Ticket(ticket_id="tk-1", router_id="rt-1", endpoint_id="ep-1", enqueued_at=AT, deadline_at=AT),
    Grant(
        driver_id="rt-2",
        boot_id="boot-1",
        number=3,
        endpoint_id="ep-1",
        ticket_id="tk-1",
        slots=(LentSlot(lease_id="sl-1", worker_id="wk-1", host="h", port=1, epoch=2),),
        keep_s=1.0,
    ),
    GrantReply(router_id="rt-1", holder_boot_id="boot-2", lease_ids=("sl-1",)),
    Release(lease_id="sl-1", endpoint_id="ep-1", worker_id="wk-1", outcome="ok", n_requests=7),
    Recall(driver_id="rt-2", endpoint_id="ep-1", hold_s=1.0),
    HeldLeases(router_id="rt-1", holder_boot_id="boot-2", lease_ids=("sl-1", "sl-2")),
    Claim(driver_id="rt-2", boot_id="boot-1", endpoint_id="ep-1", worker_id="wk-1", epoch=2),
    Tally(router_id="rt-1", holder_boot_id="boot-2", worker_id="wk-1", epoch=2, lease_ids=()),
    UsageRecord(
        worker_id="wk-1",
        endpoint_id="ep-1",
        app_name="echo",
        owner="key-1",
        node_id="node-a",
        gpu_product="rtx-4090-24gb",
        gpus=2,
        began_at=AT,
        ended_at=AT,
    ),
    Sight(bucket="PENSTOCK_ENDPOINTS", key="ep-1", revision=7),
    LogBatch(
        worker_id="wk-1",
        endpoint_id="ep-1",
        node_id="node-1",
        entries=(
            LogLine(n=1, at=AT, stream="stderr", text="ü", cut=True),
            LogGap(n=2, last=9, at=AT, why="too_fast"),
        ),
        next_n=10,
        cursor=("run", 7, "x"),
        previous=3,
        ended=True,
    ),
]


def test_every_wire_type_has_an_example() -> None:
    """So that a type that is added is tested as well; parts of others count with them."""
    parts = {
        Attempt,
        EarlierFilter,
        WebhookFilter,
        EngineProblem,
        Gpu,
        GpuReading,
        HealthProblem,
        LentSlot,
        LogGap,
        LogLine,
        WorkerLoad,
        ScaleDecision,
        ScaleInputs,
        Canary,
        AuditChange,
        AuditTarget,
        JoinedHost,
    }
    types = {
        value
        for name, value in vars(messages).items()
        if isinstance(value, type)
        and issubclass(value, Message)
        and value is not Message
        and not name.startswith("_")
    }
    assert types - parts <= {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_the_round_trip(example: Message) -> None:
    assert type(example).decode(example.encode()) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_what_a_newer_penstock_adds_is_ignored(example: Message) -> None:
    document: dict[str, Any] = example.model_dump(mode="json") | {"newer": {"a": [1]}}
    if "spec" in document:
        document["spec"] |= {"newer": 1, "gpu": document["spec"]["gpu"] | {"newer": 1}}
    assert type(example).model_validate(document) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
def test_it_cannot_be_changed(example: Message) -> None:
    field = next(iter(type(example).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(example, field, None)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_cut_message_is_an_error_that_callers_expect(example: Message, cut: float) -> None:
    data = example.encode()
    with pytest.raises(ValidationError):
        type(example).decode(data[: int(len(data) * cut)])


def test_what_a_newer_penstock_says_of_a_volumes_source_is_ignored() -> None:
    record = next(e for e in EXAMPLES if isinstance(e, VolumeRecord))
    document = record.model_dump(mode="json")
    document["source"] |= {"newer": 1}
    assert VolumeRecord.decode(json.dumps(document).encode()) == record


def test_what_a_newer_penstock_says_in_a_section_of_an_event_is_ignored() -> None:
    news = next(e for e in EXAMPLES if isinstance(e, EndpointNews))
    document = news.model_dump(mode="json")
    document["gpu"] |= {"newer": 1}
    assert EndpointNews.decode(json.dumps(document).encode()) == news


def test_an_event_tells_of_environment_and_secrets_the_names_alone() -> None:
    spec = parse_endpoint(
        {
            "name": "n",
            "app_name": "a",
            "image": {"command": "x"},
            "env": {"MODE": "fast"},
            "secrets": {"TOKEN": "gAAA"},
        }
    )
    news = EndpointNews.of(
        EndpointRecord(endpoint_id="ep-1", revision=1, created_at=AT, updated_at=AT, spec=spec)
    )
    assert (news.env, news.secrets) == (("MODE",), ("TOKEN",))
    assert b"fast" not in news.encode()
    assert b"gAAA" not in news.encode()


def test_instants_without_a_zone_are_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        Ticket(
            ticket_id="t",
            router_id="r",
            endpoint_id="e",
            enqueued_at=datetime(2030, 1, 1),  # noqa: DTZ001  # that is the point
            deadline_at=AT,
        )


@given(st.datetimes(timezones=st.just(UTC)))
def test_instants_keep_their_microseconds(at: datetime) -> None:
    ticket = Ticket(ticket_id="t", router_id="r", endpoint_id="e", enqueued_at=at, deadline_at=at)
    assert Ticket.decode(ticket.encode()).enqueued_at == at
