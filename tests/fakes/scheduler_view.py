"""Tells a live view what tables say, as the store does."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from penstock_scheduler.snapshot import HeardReport, Tables
from penstock_scheduler.store.view import LiveView

T = TypeVar("T")


def show(
    view: LiveView,
    tables: Tables,
    reports: dict[tuple[str, str], HeardReport],
    concerned: set[str] | None = None,
) -> dict[str, dict[str, HeardReport]]:
    """Tell a view of what is another than it shows; gives the reports by endpoint.

    `concerned` gets the endpoints that the changes name, as the store pokes them.
    """
    shown, named = view.tables, set[str]() if concerned is None else concerned
    named |= _see(view.see_assignment, shown.assignments, tables.assignments)
    named |= _see(view.see_worker_status, shown.worker_statuses, tables.worker_statuses)
    named |= _see(view.see_node, shown.nodes, tables.nodes)
    named |= _see(view.see_node_order, shown.node_orders, tables.node_orders)
    named |= _see(view.see_worker_order, shown.worker_orders, tables.worker_orders)
    for router_id in {*view.routers, *tables.routers}:
        view.see_router(router_id, lives=router_id in tables.routers)
    named |= {n for n, r in tables.endpoints.items() if view.endpoints.get(n) != r}
    named |= view.endpoints.keys() - tables.endpoints.keys()
    _show(view.endpoints, tables.endpoints)
    _show(view.endpoint_statuses, tables.endpoint_statuses)
    _show(view.histories, tables.histories)
    named |= _see(view.see_volume, shown.volumes, tables.volumes)
    named |= _see(view.see_api_key, shown.api_keys, tables.api_keys)
    by_endpoint: dict[str, dict[str, HeardReport]] = {}
    for (endpoint_id, router_id), heard in reports.items():
        by_endpoint.setdefault(endpoint_id, {})[router_id] = heard
    return by_endpoint


def _see(
    see: Callable[[str, T | None], set[str]], shown: Mapping[str, T], rows: Mapping[str, T]
) -> set[str]:
    named: set[str] = set()
    for key in {*shown, *rows}:
        if rows.get(key) != shown.get(key):
            named |= see(key, rows.get(key))
    return named


def _show(table: dict[str, T], rows: Mapping[str, T]) -> None:
    table.clear()
    table.update(rows)
