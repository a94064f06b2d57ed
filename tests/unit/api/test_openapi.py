"""The OpenAPI document is whole: what it refers to is there, and it says what the routes do."""

import json
from collections.abc import Iterator
from typing import Any

from penstock_api.app import ROUTES
from penstock_api.docs_page import docs_page
from penstock_api.openapi import openapi_document, operation_id, statuses_of
from penstock_api.schemas import field_comments
from penstock_client.documents import WorkerDocument

DOCUMENT = openapi_document(ROUTES, version="1.2.3")
SCHEMAS = DOCUMENT["components"]["schemas"]


def refs(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from refs(inner)


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]
    return found


def test_every_route_is_an_operation_and_every_operation_a_route() -> None:
    told = {
        (method.upper(), path, operation["operationId"])
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert told == {(route.method, route.path, operation_id(route)) for route in ROUTES}
    assert len({name for _, _, name in told}) == len(ROUTES), "an operationId stands twice"


def test_operations_are_named_after_their_resource() -> None:
    """Whose handlers stand in several modules, all the same."""
    names = {(route.method, route.path): operation_id(route) for route in ROUTES}
    assert names["PUT", "/v1/endpoints/{endpoint}"] == "endpoints_replace"
    assert names["POST", "/v1/endpoints/{endpoint}/plan"] == "endpoints_plan"
    assert names["PATCH", "/v1/endpoints/{endpoint}"] == "endpoints_update"


def test_every_reference_leads_to_a_schema_and_every_schema_is_referred_to() -> None:
    referred = {ref.removeprefix("#/components/schemas/") for ref in refs(DOCUMENT)}
    assert referred == set(SCHEMAS)


def test_errors_follow_from_the_form_of_a_route() -> None:
    by_name = {operation_id(route): statuses_of(route) for route in ROUTES}
    assert by_name["health_alive"] == (200,)
    assert by_name["health_ready"] == (200, 503)
    assert by_name["endpoints_show"] == (200, 401, 403, 404, 429)
    assert by_name["endpoints_create"] == (201, 400, 401, 403, 408, 409, 413, 415, 422, 429, 503)
    # A change takes an Idempotency-Key, for which its body is read.
    change = (400, 401, 403, 404, 408, 409, 412, 413, 422, 429, 503)
    assert by_name["endpoints_delete"] == (202, *change)
    assert by_name["endpoints_pause"] == (200, *change)


def test_a_key_is_asked_exactly_where_the_route_asks_for_one() -> None:
    for route in ROUTES:
        told = operation(route.method.lower(), route.path)
        assert ("security" in told) == (route.scope != "open")


def test_only_something_to_run_is_required_of_a_new_endpoint() -> None:
    assert SCHEMAS["EndpointSpec"]["required"] == ["image"]


def test_an_order_about_a_node_needs_no_body_and_a_new_endpoint_does() -> None:
    assert operation("post", "/v1/nodes/{node}/drain")["requestBody"]["required"] is False
    assert operation("post", "/v1/endpoints")["requestBody"]["required"] is True


def test_nothing_is_required_of_a_merge_patch_and_null_is_a_value() -> None:
    body = operation("patch", "/v1/endpoints/{endpoint}")["requestBody"]["content"]
    assert set(body) == {"application/merge-patch+json", "application/json"}
    for name in [name for name in SCHEMAS if name.endswith("-Patch")]:
        assert "required" not in SCHEMAS[name]
        for field in SCHEMAS[name]["properties"].values():
            assert {"type": "null"} in field["anyOf"]
            assert "default" not in field["anyOf"][0]


def test_the_comments_of_fields_describe_them() -> None:
    assert field_comments(WorkerDocument)["idle_s"].startswith("seconds since its last request")
    shown = SCHEMAS["WorkerDocument"]["properties"]["in_flight"]
    assert shown["description"].startswith("requests that hold a slot; null =")


def test_the_page_shows_every_route_and_schema_and_loads_nothing() -> None:
    page = docs_page(DOCUMENT)
    for route in ROUTES:
        assert f"id='{operation_id(route)}'" in page
    for name in SCHEMAS:
        assert f"id='{name}'" in page
    assert not any(mark in page for mark in ("<script", "<link", "<img", "@import", "url("))


def test_the_page_escapes_what_it_shows() -> None:
    document = json.loads(json.dumps(DOCUMENT))
    document["info"]["summary"] = "<script>alert(1)</script>"
    assert "<script" not in docs_page(document)
