"""Prices of GPUs, as an operator writes them."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from penstock_api.settings import ApiSettings


def test_prices_are_read_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_API_GPU_PRICES", " RTX-4090-24gb = 0.35, h100-80gb-hbm3=2 ,")
    assert ApiSettings().gpu_prices == {
        "rtx-4090-24gb": Decimal("0.35"),
        "h100-80gb-hbm3": Decimal(2),
    }
    monkeypatch.setenv("PENSTOCK_API_GPU_PRICES", "")
    assert ApiSettings().gpu_prices == {}


@pytest.mark.parametrize("text", ["rtx", "rtx=", "=1", "rtx=cheap", "rtx=-1", "rtx=inf", "rtx=nan"])
def test_what_is_no_price_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PENSTOCK_API_GPU_PRICES", text)
    with pytest.raises(ValidationError, match="is no price such as"):
        ApiSettings()
