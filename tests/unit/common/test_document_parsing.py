"""Every document tells all its problems, each where it stands in the document."""

from collections.abc import Callable

import pytest

from penstock_common.api_keys import parse_api_key
from penstock_common.errors import InvalidDocumentError
from penstock_common.specs import parse_endpoint
from penstock_common.volumes import parse_volume


def problems(parse: Callable[[object], object], document: object) -> dict[str, str]:
    with pytest.raises(InvalidDocumentError) as raised:
        parse(document)
    return {problem.pointer: problem.message for problem in raised.value.problems}


def test_a_mistyped_field_is_told_with_the_nearest_one() -> None:
    document = {"nmae": "ci", "scope": "invoke", "zzz": 1}
    assert problems(parse_api_key, document) == {
        "/name": "is required",
        "/nmae": "is no known field; did you mean 'name'?",
        "/zzz": "is no known field; remove it",
    }


def test_a_pointer_holds_no_tag_of_a_union() -> None:
    source = {"type": "nfs", "server": "nas", "path": "/x", "zz": 1}
    assert list(problems(parse_volume, {"name": "n", "source": source})) == ["/source/zz"]
    document = {
        "name": "n",
        "app_name": "a",
        "image": {"command": "x"},
        "storage": {"volumes": [{"type": "local", "mount_path": "/x", "zz": 1}]},
    }
    assert list(problems(parse_endpoint, document)) == ["/storage/volumes/0/zz"]


def test_slashes_and_tildes_in_names_are_escaped_in_pointers() -> None:
    document = {"name": "ci", "scope": "invoke", "a/b~c": 1}
    assert list(problems(parse_api_key, document)) == ["/a~1b~0c"]


@pytest.mark.parametrize("document", [None, [], "x"])
def test_what_is_no_object_says_so(document: object) -> None:
    assert problems(parse_api_key, document) == {"": "must be a JSON object"}
