"""What a person reads when something was refused, and with which code the command ends."""

from typing import Any

import pytest

from penstock_cli.exits import ExitCode
from penstock_cli.refusals import LISTS, as_cli_error, nearest_name
from penstock_client.documents import ProblemDocument
from penstock_client.errors import ApiError, UnreachableError, WaitTimeoutError
from penstock_common.errors import PenstockError


def refusal(status: int, reason: str, detail: str) -> ApiError:
    return ApiError(ProblemDocument(title="", status=status, reason=reason, detail=detail))


MISSING = refusal(404, "endpoint_not_found", "there is no endpoint 'ehco'")


@pytest.mark.parametrize(
    ("error", "code", "next_step"),
    [
        (refusal(401, "unauthorized", "no"), ExitCode.DENIED, "penstock key create"),
        (refusal(403, "forbidden", "no"), ExitCode.DENIED, "penstock key create NAME --scope"),
        (MISSING, ExitCode.NOT_FOUND, "`penstock endpoint list` shows what there is"),
        (refusal(409, "app_name_taken", "taken"), ExitCode.REFUSED, "taken"),
        (refusal(503, "not_ready", "no"), ExitCode.REFUSED, "try again"),
        (WaitTimeoutError("not yet"), ExitCode.TIMEOUT, "--wait-timeout"),
        (UnreachableError("away"), ExitCode.UNREACHABLE, "is `penstock up` running?"),
        (PenstockError("odd"), ExitCode.REFUSED, "odd"),
    ],
)
def test_each_ends_with_its_code_and_the_next_step(
    error: PenstockError, code: ExitCode, next_step: str
) -> None:
    told = as_cli_error(error, "context lab")
    assert told.code is code
    assert next_step in str(told)


def test_it_says_who_named_the_api() -> None:
    assert "(named by context lab)" in str(as_cli_error(UnreachableError("away"), "context lab"))


def test_the_nearest_name_is_offered() -> None:
    assert "did you mean 'echo'?" in str(as_cli_error(MISSING, "", ["llama", "echo"]))
    assert "did you mean" not in str(as_cli_error(MISSING, "", ["llama"]))
    assert nearest_name("nothing is quoted", ["echo"]) is None


def test_every_command_that_is_named_exists() -> None:
    from typer.main import get_command

    from penstock_cli.app import app

    root: Any = get_command(app)  # its groups have `commands`
    for line in LISTS.values():
        command = root
        for word in line.split()[1:]:
            if word.islower():  # the others stand for a name
                command = command.commands[word]
