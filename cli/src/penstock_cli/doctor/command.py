"""`penstock doctor`: looks at the installation and this machine, and says how to mend them."""

import asyncio
import dataclasses
import json
from typing import Annotated

import typer

from penstock_cli.doctor.findings_table import print_findings
from penstock_cli.doctor.look import look
from penstock_cli.options import DEFAULT_DATA, ApiOption, DataOption
from penstock_cli.output.printing import print_line
from penstock_cli.target import find_target
from penstock_common.clock import SystemClock


def doctor(
    api: ApiOption = None,
    data: DataOption = DEFAULT_DATA,
    docker_host: Annotated[
        str, typer.Option(envvar="DOCKER_HOST", help="The Docker engine to look at.")
    ] = "unix:///var/run/docker.sock",
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at NATS, api, nodes, Docker, driver, clocks and disks; exits 1 on a problem."""
    target = find_target(api, data, needs_key=False)
    findings = asyncio.run(look(target, data, docker_host, SystemClock()))
    if as_json:
        print_line(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        print_findings(findings)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)
