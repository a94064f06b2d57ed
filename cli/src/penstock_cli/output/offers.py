"""Products and limits as a person reads them."""

import json
from collections.abc import Sequence

from penstock_cli.output.printing import print_facts, print_line, print_rows
from penstock_client.documents import FieldLimits, LimitsDocument, ProductDocument


def print_products(products: Sequence[ProductDocument]) -> None:
    """A table, one product a line."""
    print_rows(
        ("PRODUCT", "VRAM", "FREE", "TOTAL", "BAD", "MOST ON A NODE", "CUDA", "PRICE/H", "NODES"),
        (
            (
                product.id,
                f"{product.vram_bytes / 1e9:.0f} GB",
                product.gpus_free,
                product.gpus_total,
                product.gpus_unhealthy,
                product.most_free_on_a_node,
                ", ".join(product.cuda_versions) or "-",
                "-" if product.price_per_hour is None else f"{product.price_per_hour:g}",
                ", ".join(f"{node.node_id} {node.free}/{node.total}" for node in product.nodes),
            )
            for product in products
        ),
        "no node has a GPU",
        spare=("NODES", "CUDA", "BAD", "VRAM"),
    )


def print_limits(limits: LimitsDocument) -> None:
    """A table of the fields, and what the caller may do."""
    print_rows(
        ("FIELD", "TAKES", "DEFAULT"),
        (
            (name, _taken(field), "-" if field.default is None else json.dumps(field.default))
            for name, field in limits.fields.items()
        ),
    )
    print_line("")
    quota, requests = limits.quota, limits.requests
    print_facts(
        [
            ("API key", f"{quota.api_key} ({quota.scope})"),
            ("endpoints made", quota.endpoints),
            ("workers held", _of(quota.workers, quota.max_workers)),
            ("GPUs held", _of(quota.gpus, quota.max_gpus)),
            ("document", f"at most {limits.max_document_bytes:,} bytes as stored"),
            (
                "body",
                f"at most {requests.max_body_bytes:,} bytes within {requests.body_timeout_s:g} s",
            ),
            ("requests", f"{requests.rate_per_s:g} a second, {requests.burst} at once before that"),
        ]
    )


def _of(used: int, most: int | None) -> str:
    return f"{used} of {most}" if most is not None else f"{used}, no quota"


def _taken(field: FieldLimits) -> str:
    if field.one_of is not None:
        return " | ".join(field.one_of)
    if field.type == "string":
        longest = f"text of {field.min_length or 0} to {field.max_length} characters"
        matching = f"text like {field.pattern}"
        return matching if field.max_length is None else longest
    least = f"{field.minimum}" if field.minimum is not None else f"above {field.exclusive_minimum}"
    whole = " (whole)" if field.type == "integer" else ""
    return f"{least} to {field.maximum}{whole}"
