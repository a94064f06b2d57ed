"""`penstock doctor`: looks at the installation and this machine, and says how to mend them."""

import asyncio
import dataclasses
from typing import Annotated

import typer

from penstock_cli.doctor.findings_table import print_findings
from penstock_cli.doctor.look import look
from penstock_cli.exits import ExitCode
from penstock_cli.output.documents import Form, print_document
from penstock_cli.session import Session, with_session
from penstock_common.clock import SystemClock


@with_session
def doctor(
    session: Session,
    docker_host: Annotated[
        str, typer.Option(envvar="DOCKER_HOST", help="The Docker engine to look at.")
    ] = "unix:///var/run/docker.sock",
) -> None:
    """Look at NATS, api, nodes, Docker, driver, clocks and disks; exits 1 on a problem."""
    target = session.find_target(needs_key=False)
    findings = asyncio.run(look(target, session.data, docker_host, SystemClock()))
    if session.form is Form.TEXT:
        print_findings(findings)
    else:
        print_document([dataclasses.asdict(finding) for finding in findings], session.form)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(ExitCode.REFUSED)
