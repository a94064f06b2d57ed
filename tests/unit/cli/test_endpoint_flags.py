"""Flags as a part of the endpoint document."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_cli.input.endpoint_flags import PLACES, EndpointFlags, FlagError, flag_of, overlay
from penstock_common.specs import EndpointSpec, parse_endpoint

FULL = EndpointFlags(
    name="Llama",
    app_name="llama",
    image="vllm/vllm-openai",
    command="--model m",
    port=8000,
    gpus=2,
    gpu_product=["rtx-4090-24gb", "l40s-48gb"],
    min=1,
    max=4,
    concurrency=8,
    idle_timeout=30,
    scale="request_count=8",
    health_path="/ready",
    env=["A=1=2", "FROM_HERE"],
    secret=["TOKEN=t"],
    public=True,
)


def test_all_flags_make_a_valid_document() -> None:
    document = FULL.document({"FROM_HERE": "there"})
    spec = parse_endpoint(document)
    assert spec.gpu.products == ("rtx-4090-24gb", "l40s-48gb")
    assert (spec.workers.min, spec.workers.max, spec.workers.max_concurrency) == (1, 4, 8)
    assert (spec.scaling.type, spec.scaling.value) == ("request_count", 8)
    assert spec.env == {"A": "1=2", "FROM_HERE": "there"}
    assert spec.secrets == {"TOKEN": "t"}
    assert (spec.health.path, spec.image.http_port, spec.public) == ("/ready", 8000, True)


def test_no_flag_says_nothing() -> None:
    assert EndpointFlags().document({}) == {}


def test_an_empty_health_path_is_none_at_all() -> None:
    assert EndpointFlags(health_path="").document({}) == {"health": {"path": None}}


@pytest.mark.parametrize(
    ("flags", "flag", "told"),
    [
        ({"scale": "queue_delay"}, "--scale", "queue_delay=4"),
        ({"scale": "fast=very"}, "--scale", "queue_delay=4"),
        ({"env": ["=1"]}, "--env", "no name"),
        ({"secret": ["MISSING"]}, "--secret", "MISSING=value"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(flags: Any, flag: str, told: str) -> None:
    with pytest.raises(FlagError, match=told) as caught:
        EndpointFlags(**flags).document({})
    assert caught.value.flag == flag


@pytest.mark.parametrize(
    ("pointer", "flag"),
    [
        ("/workers/min", "--min"),
        ("/image/http_port", "--port"),
        ("/gpu/products/1", "--gpu-product"),
        ("/scaling/type", "--scale"),
        ("/env", "--env"),
        ("/env/A", "--env"),
        ("/workers", None),
        ("/storage/volumes/0/id", None),
        ("", None),
    ],
)
def test_the_flag_of_a_field_is_known(pointer: str, flag: str | None) -> None:
    assert flag_of(pointer) == flag


def test_every_place_is_a_field_of_the_document() -> None:
    for place in PLACES.values():
        model: Any = EndpointSpec
        for part in place:
            assert part in model.model_fields
            model = model.model_fields[part].annotation


objects = st.recursive(
    st.integers() | st.none(),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), objects, max_size=3)


@given(documents, documents)
def test_flags_win_and_the_rest_of_the_document_stays(
    document: dict[str, Any], flags: dict[str, Any]
) -> None:
    merged = overlay(document, flags)
    assert merged.keys() == document.keys() | flags.keys()
    assert overlay(merged, flags) == merged
    for name in document.keys() - flags.keys():
        assert merged[name] == document[name]
    for name, value in flags.items():
        if not isinstance(value, dict):
            assert merged[name] == value
