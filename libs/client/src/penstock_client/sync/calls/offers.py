# Made by libs/client/make_sync.py of penstock_client/calls/offers.py: change that one.
"""Calls about what there is to ask for."""

from typing import Final

from penstock_client.documents import LimitsDocument, ProductDocument, ProductList
from penstock_client.sync.calls.listing import Listing
from penstock_client.sync.transport import Transport

PATH: Final = "/v1/products"


class ProductCalls:
    """Kinds of GPU that the nodes have."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Listing[ProductDocument, ProductList]:
        """The GPU products of the nodes that report, by id."""
        return Listing(self._transport, PATH, ProductList, lambda page: page.products)


class LimitCalls:
    """What a document may contain, and the caller may do."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def show(self) -> LimitsDocument:
        """The limits, with the quota of the key that asks and its use of it."""
        return self._transport.ask(LimitsDocument, "GET", "/v1/limits")
