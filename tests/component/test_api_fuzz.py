"""Whatever JSON comes, the api answers with a document or with a problem, never with a failure."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock_common.specs import EndpointSpec
from tests.support.api_server import Answer, ApiServer
from tests.support.nats_server import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(600)]

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1, 0, "1", "/health", "12.4", "queue_delay", "network", "local", "a'b"])
    | st.text(max_size=20)
)
#: Names that mean something somewhere in the document, so that many examples get far.
names = st.sampled_from(
    [
        *EndpointSpec.model_fields,
        *[
            "image",
            "command",
            "entrypoint",
            "registry_auth_id",
            "http_port",
            "count",
            "products",
            "min",
            "max",
        ],
        *[
            "max_concurrency",
            "idle_timeout_s",
            "type",
            "value",
            "path",
            "volumes",
            "size_gb",
            "mount_path",
            "id",
        ],
        *["state", "load", "KEY", "PORT"],
    ]
) | st.text(max_size=5)
anything = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)
VALID: dict[str, Any] = {
    "image": {"image": "acme/echo"},
    "gpu": {"count": 1},
    "workers": {"min": 0, "max": 3},
    "storage": {"volumes": [{"type": "local", "mount_path": "/w"}]},
    "env": {"KEY": "value"},
    "secrets": {"TOKEN": "value"},
}
almost_valid = st.dictionaries(names, anything, max_size=2).map(lambda odd: VALID | odd)
section = st.fixed_dictionaries({}, optional=dict.fromkeys(VALID, anything))
plausible = st.fixed_dictionaries(
    {"image": st.fixed_dictionaries({"image": st.text(min_size=1, max_size=40)})},
    optional={
        "name": st.text(min_size=1, max_size=20),
        "env": st.dictionaries(st.text(max_size=3) | st.just("KEY"), st.text(max_size=9)),
        "secrets": st.dictionaries(st.just("TOKEN"), st.none() | st.text(max_size=9)),
        "scaling": st.fixed_dictionaries({"value": st.floats(0.1, 2e5)}),
        "public": st.booleans(),
    },
)


def test_no_body_makes_the_api_fail(nats_server: NatsServer, tmp_path: Path) -> None:
    """Sync, as hypothesis wants it; the loop is kept from example to example."""
    with asyncio.Runner() as runner:
        api = ApiServer(nats_server, tmp_path / "api")
        runner.run(api.start())
        target = runner.run(api.create())["id"]
        accepted = {"POST": 0, "PATCH": 0}

        def check(method: str, path: str, body: object, success: int) -> None:
            answer: Answer = runner.run(
                api.ask(
                    method,
                    path,
                    data=json.dumps(body).encode(),
                    headers={"Content-Type": "application/json"},
                )
            )
            if answer.status == success:
                accepted[method] += 1
                EndpointSpec.model_validate({**answer.document, "secrets": {}}, extra="ignore")
            else:
                assert answer.status in {400, 409, 422}, answer
                assert answer.document["reason"]
                assert answer.status != 422 or answer.document["errors"]

        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            st.one_of(anything, almost_valid, section, plausible),
            st.sampled_from(["POST", "PATCH"]),
        )
        def fuzz(body: object, method: str) -> None:
            if method == "POST":
                check("POST", "/v1/endpoints", body, 201)
            else:
                check("PATCH", f"/v1/endpoints/{target}", body, 200)

        try:
            fuzz()
            assert runner.run(api.ask("GET", "/v1/endpoints")).status == 200
            assert min(accepted.values()) > 3, accepted
        finally:
            runner.run(api.stop())
