import json

from penstock_cli.local.child_lines import for_person, from_nats
from penstock_cli.local.supervisor import error_in


def test_a_json_line_becomes_one_readable_line() -> None:
    line = json.dumps(
        {
            "ts": "2030-01-01T12:00:01.123+00:00",
            "level": "warning",
            "service": "router",
            "logger": "penstock_router.app",
            "message": "worker ejected",
            "action": "worker_ejected",
            "worker_id": "wk-1",
        }
    )
    assert for_person("router", line) == (
        "12:00:01.123 router      WARNING worker ejected worker_id=wk-1"
    )


def test_a_line_that_is_no_json_stays_as_it_is() -> None:
    assert for_person("nats", "[1] [INF] ready").endswith("[1] [INF] ready")
    assert for_person("nats", "123").endswith(" 123")


def test_the_error_of_a_line_is_its_error_field_or_the_exceptions_last_line() -> None:
    assert error_in('{"level": "error", "message": "m", "error": "no engine"}') == "no engine"
    assert error_in('{"level": "error", "message": "m", "exception": "Trace\\nValueError: x"}') == (
        "ValueError: x"
    )
    assert error_in('{"level": "info", "message": "m"}') == ""
    assert error_in("plain") == ""


def test_of_a_nats_server_only_warnings_and_errors_are_shown() -> None:
    head = "[23892] 2026/11/23 05:47:34.635918"
    assert from_nats(f"{head} [INF] Starting nats-server") is None
    assert from_nats(f"{head} [WRN] Plaintext passwords detected, use nkeys or bcrypt") is None
    shown = from_nats(f"{head} [ERR] disk full")
    assert shown is not None
    assert for_person("nats", shown) == "05:47:34.635 nats        ERROR disk full"
