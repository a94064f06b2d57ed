"""Endpoints, their decisions and their revisions as a person reads them."""

import json
from collections.abc import Sequence

from penstock_cli.output.printing import print_facts, print_line, print_rows, state_cell
from penstock_client.documents import EndpointDocument, RevisionDocument
from penstock_common.messages import ScaleDecision


def print_endpoints(endpoints: Sequence[EndpointDocument]) -> None:
    """A table, one endpoint a line."""
    print_rows(
        ("APP", "STATE", "WORKERS", "WAITING", "IN FLIGHT", "REV", "URL", "ID"),
        (
            (
                endpoint.app_name,
                state_cell(endpoint.state, endpoint.reason),
                f"{endpoint.workers_running} of {endpoint.workers.min}-{endpoint.workers.max}",
                endpoint.load.waiting,
                endpoint.load.in_flight,
                endpoint.revision,
                endpoint.url,
                endpoint.id,
            )
            for endpoint in endpoints
        ),
        "no endpoints; make one with `penstock endpoint create`",
        spare=("ID", "REV", "IN FLIGHT", "WAITING", "URL"),
    )


def print_endpoint(endpoint: EndpointDocument) -> None:
    """A summary of one endpoint, a fact a line."""
    workers, scaling, load = endpoint.workers, endpoint.scaling, endpoint.load
    gpu = f"{endpoint.gpu.count} x {' or '.join(endpoint.gpu.products) or 'any product'}"
    facts: list[tuple[str, object]] = [
        ("app", endpoint.app_name),
        ("name", endpoint.name if endpoint.name != endpoint.app_name else None),
        ("id", endpoint.id),
        ("url", endpoint.url + (" (public)" if endpoint.public else "")),
        ("state", state_cell(endpoint.state, endpoint.reason)),
        ("message", endpoint.message),
        ("revision", endpoint.revision),
        (
            "canary",
            f"{endpoint.canary.percent} % of the requests, the others for revision "
            f"{endpoint.canary.stable_revision}"
            if endpoint.canary is not None
            else None,
        ),
        ("image", endpoint.image.image),
        ("command", endpoint.image.command),
        ("gpu", gpu if endpoint.gpu.count else "none"),
        (
            "workers",
            (
                f"{endpoint.workers_running} running, {endpoint.workers_starting} starting, "
                f"{endpoint.workers_draining} draining (min {workers.min}, max {workers.max}), "
                f"{workers.max_concurrency} slot{'s' if workers.max_concurrency > 1 else ''} each"
            ),
        ),
        (
            "requests",
            f"{load.in_flight} in flight, {load.waiting} waiting"
            + (f" (oldest {load.oldest_wait_s:.1f} s)" if load.waiting else ""),
        ),
        (
            "service time",
            f"{load.service_p50_s:.3g} s half of them, {load.service_p95_s:.3g} s 95 of 100"
            if load.service_p50_s is not None and load.service_p95_s is not None
            else None,
        ),
        (
            "scaling",
            f"{scaling.type} {scaling.value:g}, idle after {workers.idle_timeout_s:g} s",
        ),
        ("env", ", ".join(sorted(endpoint.env)) or None),
        ("secrets", ", ".join(endpoint.secrets) or None),
        ("exit code", endpoint.exit_code),
        ("next try", endpoint.retry_at),
    ]
    print_facts(facts)
    if endpoint.log_tail:
        print_line("last output of the worker that failed:")
        for line in endpoint.log_tail:
            print_line(f"  | {line}")


def print_trouble(endpoint: EndpointDocument) -> None:
    """What keeps an endpoint from plainly serving, in a line; nothing where nothing does."""
    if endpoint.message is not None:
        reason = f" ({endpoint.reason})" if endpoint.reason else ""
        print_line(f"now {endpoint.state}{reason}: {endpoint.message}")


def print_decisions(decisions: Sequence[ScaleDecision]) -> None:
    """A table, one decision a line, the newest last; what it was made on beside the sentence."""
    print_rows(
        ("AT", "WORKERS", "RATE", "SERVICE", "START", "WHY"),
        (
            (
                f"{decision.at:%Y-%m-%d %H:%M:%S}Z",
                f"{decision.before} to {decision.after}",
                *_measured(decision),
                decision.why,
            )
            for decision in reversed(decisions)
        ),
        "no decision yet",
    )


def _measured(decision: ScaleDecision) -> tuple[str, str, str]:
    inputs = decision.inputs
    if inputs is None:
        return "-", "-", "-"
    service = "-" if inputs.service_time_s is None else f"{inputs.service_time_s:.2f} s"
    burst = " burst" if inputs.burst else ""
    return f"{inputs.arrivals_per_s:.2f}/s{burst}", service, f"{inputs.start_s:.1f} s"


def print_revisions(revisions: Sequence[RevisionDocument]) -> None:
    """A table, one revision a line, the newest last."""
    print_rows(
        ("REV", "AT", "CAUSE", "CHANGES", "WHY"),
        (
            (
                f"{revision.revision}{' (present)' if revision.present else ''}",
                f"{revision.created_at:%Y-%m-%d %H:%M:%S}Z",
                revision.cause,
                _changes(revision),
                revision.why or "-",
            )
            for revision in reversed(revisions)
        ),
        "no revisions",
    )


def _changes(revision: RevisionDocument) -> str:
    if not revision.changes:
        return "-"
    return ", ".join(
        f"{change.pointer}: {json.dumps(change.before)} to {json.dumps(change.after)}"
        for change in revision.changes
    )
