"""Who guesses keys does not fill the audit trail."""

from dataclasses import replace
from datetime import timedelta

from penstock_api.audit.denials import MAX_ALIKE, OTHERS, Denial, Denials
from tests.fakes.clock import EPOCH

GUESS = Denial(None, "", "10.0.0.9", "endpoints_show_all", "GET /v1/endpoints", 401, "unauthorized")


def test_those_alike_are_one_record_with_a_count() -> None:
    denials = Denials()
    for seconds in range(1000):
        denials.note(GUESS, f"req-{seconds}", EPOCH + timedelta(seconds=seconds))
    denials.note(replace(GUESS, key_id="key-1", status=403), "req-x", EPOCH)
    many, one = denials.take("au-1")
    assert (many.count, many.request_id, many.status) == (1000, "req-0", 401)
    assert (many.at, many.last_at) == (EPOCH, EPOCH + timedelta(seconds=999))
    assert (one.count, one.key_id, one.status) == (1, "key-1", 403)
    assert many.audit_id != one.audit_id
    assert denials.take("au-2") == []


def test_a_guesser_with_many_addresses_makes_one_record_more() -> None:
    denials = Denials()
    for n in range(5000):
        denials.note(replace(GUESS, source=f"10.0.{n // 256}.{n % 256}"), f"req-{n}", EPOCH)
    records = denials.take("au-1")
    assert len(records) == MAX_ALIKE + 1
    assert records[-1].source == ""
    assert records[-1].action == OTHERS
    assert sum(record.count for record in records) == 5000
    # One that is known already is counted as what it is, however full the window is.
    for n in range(5000):
        denials.note(replace(GUESS, source=f"10.0.{n // 256}.{n % 256}"), f"req-{n}", EPOCH)
    denials.note(replace(GUESS, source="10.0.0.0"), "req", EPOCH)
    assert denials.take("au-2")[0].count == 2
