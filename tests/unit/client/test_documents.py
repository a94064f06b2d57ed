"""How documents come, and when two are the same."""

import pytest

from penstock_client.documents import UsageReport, VolumeDocument, VolumeList
from penstock_client.errors import NoTagError

VOLUME = {
    "id": "vol-1",
    "name": "models",
    "source": {"type": "nfs", "server": "10.0.0.9", "path": "/models"},
    "endpoints": ["echo"],
    "created_at": "2030-01-01T00:00:00Z",
    "updated_at": "2030-01-01T00:00:00Z",
    "newer_field": {"of": "a newer api"},
}


def test_a_document_and_those_in_it_keep_the_json_they_came_in() -> None:
    listed = VolumeList.of({"volumes": [VOLUME], "next_cursor": "abc"})
    assert listed.raw == {"volumes": [VOLUME], "next_cursor": "abc"}
    assert listed.volumes[0].raw is VOLUME


def test_a_document_that_was_not_parsed_has_the_json_of_its_fields() -> None:
    parsed = VolumeDocument.of(VOLUME)
    made = VolumeDocument(**{name: getattr(parsed, name) for name in VolumeDocument.model_fields})
    assert made.raw["name"] == "models"
    assert "newer_field" not in made.raw


def test_documents_are_the_same_when_their_fields_are() -> None:
    one = VolumeDocument.of(VOLUME, etag='"7"')
    other = VolumeDocument.of({**VOLUME, "newer_field": None})
    assert one == other
    assert one != VolumeDocument.of({**VOLUME, "name": "weights"})
    assert one != VolumeList.of({"volumes": []})
    assert one != VOLUME


def test_a_tag_that_did_not_come_is_not_had() -> None:
    assert VolumeDocument.of(VOLUME, etag='"7"').etag == '"7"'
    with pytest.raises(NoTagError):
        _ = VolumeDocument.of(VOLUME).etag


def test_a_field_with_another_name_in_json_is_parsed_as_well() -> None:
    row = {"group": None, "name": None, "workers": 0, "worker_s": 0, "gpu_s": 0, "cost": None}
    report = {
        "from": "2030-01-01T00:00:00Z",
        "to": "2030-02-01T00:00:00Z",
        "group_by": "key",
        "rows": [],
        "total": row,
        "prices": {},
    }
    parsed = UsageReport.of(report)
    assert (parsed.from_.year, parsed.raw, parsed.total.raw) == (2030, report, row)
