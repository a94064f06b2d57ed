"""Sources become documents that can be deployed, or everything that is wrong with them is told."""

import pytest

from penstock_cli.deployment.documents import DocumentError
from penstock_cli.deployment.plans import read_sources, refusal_faults
from penstock_client.documents import ErrorItem, ProblemDocument
from penstock_client.errors import ApiError


def faults(*sources: tuple[str, str], settings: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read_sources(sources, settings, {})
    return [str(fault) for fault in caught.value.faults]


def refused(status: int, *errors: tuple[str, str]) -> ApiError:
    items = tuple(ErrorItem(pointer=pointer, message=message) for pointer, message in errors)
    return ApiError(
        ProblemDocument(
            title="Refused", status=status, detail="not so", reason="refused", errors=items
        )
    )


def test_documents_come_in_the_order_of_their_sources() -> None:
    found = read_sources(
        [("b.yaml", "app_name: one\n---\napp_name: two\n"), ("a.json", '{"app_name": "three"}')],
        (),
        {},
    )
    assert [document.value["app_name"] for document in found] == ["one", "two", "three"]


def test_a_setting_is_for_one_document() -> None:
    (only,) = read_sources([("a", "app_name: ${A}")], ["app_name=set", "workers.max=2"], {"A": "x"})
    assert only.value == {"app_name": "set", "workers": {"max": 2}}
    told = faults(("a", "app_name: a"), ("b", "app_name: b"), settings=("workers.max=2",))
    assert told == ["--set: there are 2 documents, and nothing says which one is meant"]


def test_all_that_is_wrong_is_told_at_once() -> None:
    told = faults(
        ("a.yaml", "image: {}\n---\napp_name: 3\n---\napp_name: ${A}\n"),
        ("b.yaml", "app_name: x\nenv: {A: 1}\n"),
    )
    assert [line.partition(": ")[0] for line in told] == [
        "a.yaml:1:1",
        "a.yaml:3:1",
        "a.yaml:5:1",
        "b.yaml:2:7",
    ]
    assert "add a line like `app_name: echo`" in told[0]
    assert faults(("a", "x: ["), ("b", "- 1")) == [
        "a:1:5: no YAML: expected the node content, but found '<stream end>'",
        "b:1:1: is no object; an endpoint document begins with a line like `app_name: echo`",
    ]


def test_an_endpoint_is_deployed_once_in_a_run() -> None:
    told = faults(("a", "app_name: x"), ("b", "name: y\napp_name: x\n"))
    assert told == ["b:2:1: 'x' is deployed by a:1:1 as well; give it once"]


def test_what_the_api_refuses_stands_in_the_file() -> None:
    text = "app_name: echo\nimage:\n  imag: x\nworkers:\n  max: ${N}\n"
    (document,) = read_sources([("f.yaml", text)], ["gpu.count=many"], {"N": "many"})
    told = refusal_faults(
        document,
        refused(
            422,
            ("/image/imag", "is no known field"),
            ("/workers/max", "should be a number"),
            ("/gpu/count", "should be a number"),
            ("/health/path", "is wrong"),
            ("", "is wrong as a whole"),
        ),
    )
    assert [str(fault) for fault in told] == [
        "f.yaml:3:3: image.imag: is no known field",
        (
            "f.yaml:5:3: workers.max: should be a number "
            "(it is text, filled in from N; --set workers.max=… takes numbers)"
        ),
        "--set gpu.count=many: gpu.count: should be a number",
        "f.yaml:1:1: health.path: is wrong",
        "f.yaml:1:1: is wrong as a whole",
    ]
    assert [str(fault) for fault in refusal_faults(document, refused(409))] == [
        "f.yaml:1:1: not so"
    ]
