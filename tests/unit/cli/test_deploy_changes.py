"""What a deployment would change, as a person reads it; secrets are never shown."""

from typing import Any

from penstock_cli.deployment.changes import change_lines, dotted, headline, plain_lines
from penstock_client.documents import PlanDocument, PlannedChange


def change(pointer: str, before: Any, after: Any, *, replaces: bool = False) -> PlannedChange:
    return PlannedChange(pointer=pointer, before=before, after=after, replaces_workers=replaces)


def plan(*changes: PlannedChange, creates: bool = False, **fields: Any) -> PlanDocument:
    return PlanDocument(
        app_name="echo",
        creates=creates,
        revision=fields.get("revision", 2),
        replaces_workers=any(change.replaces_workers for change in changes),
        changes=changes,
        secrets_kept=tuple(fields.get("secrets_kept", ())),
    )


def test_a_change_is_a_line_a_field_and_says_what_replaces_workers() -> None:
    planned = plan(
        change("/env/OLD", "1", None, replaces=True),
        change("/health/path", "/health", None, replaces=True),
        change("/image/command", None, "python x", replaces=True),
        change("/placement/node_selector/a.b~1c", None, "x"),
        change("/secrets/CHANGED", "(hidden)", "(hidden)", replaces=True),
        change("/secrets/GONE", "(hidden)", None, replaces=True),
        change("/secrets/NEW", None, "(hidden)", replaces=True),
        change("/workers/max", 3, 9),
        secrets_kept=["KEPT"],
    )
    assert list(plain_lines(planned)) == [
        "echo: changes, revision 2 replaces the workers",
        '  - env.OLD                         "1"  (replaces workers)',
        '  ~ health.path                     "/health" → null  (replaces workers)',
        '  ~ image.command                   null → "python x"  (replaces workers)',
        r'  + placement.node_selector.a\.b/c  "x"',
        "  ~ secrets.CHANGED                 changed  (replaces workers)",
        "  - secrets.GONE                    removed  (replaces workers)",
        "  + secrets.NEW                     set  (replaces workers)",
        "  ~ workers.max                     3 → 9",
        "    secrets.KEPT                    kept",
    ]
    assert "hidden" not in "\n".join(plain_lines(planned))


def test_a_new_endpoint_has_only_what_is_added() -> None:
    planned = plan(
        change("/app_name", None, "echo"), change("/workers/min", 0, 1), creates=True, revision=1
    )
    assert list(plain_lines(planned)) == [
        "echo: new",
        '  + app_name     "echo"',
        "  + workers.min  1",
    ]


def test_nothing_to_change_is_one_line() -> None:
    assert list(plain_lines(plan(secrets_kept=["KEPT"]))) == ["echo: no changes"]
    assert change_lines(plan()) == []


def test_limits_alone_leave_the_workers_as_they_run() -> None:
    assert headline(plan(change("/workers/max", 3, 9))) == (
        "echo: changes that its workers take as they run"
    )


def test_a_pointer_is_a_path_that_can_be_set() -> None:
    assert dotted("/env/A~1B.c") == r"env.A/B\.c"
    assert dotted("") == ""
