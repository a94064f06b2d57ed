"""Horizontal bars as SVG, with nothing but text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 460
_LABEL: Final = 130
_VALUE: Final = 60
_ROW: Final = 20
_MARGIN: Final = 16
_COLUMNS: Final = 2
_OURS: Final = "#c2410c"
_OTHERS: Final = "#94a3b8"


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: a title, and a bar per name. Values are finite and not negative."""

    title: str
    bars: list[tuple[str, float]]

    @property
    def height(self) -> int:
        """In pixels."""
        return _ROW * (len(self.bars) + 2)


def draw(panels: Sequence[Panel]) -> str:
    """An SVG document with these panels, two beside each other; Penstock's bars stand out."""
    parts: list[str] = []
    y = _MARGIN
    for begin in range(0, len(panels), _COLUMNS):
        row = panels[begin : begin + _COLUMNS]
        for column, panel in enumerate(row):
            x = _MARGIN + column * (_WIDTH + _MARGIN)
            parts.append(f'<g transform="translate({x},{y})">{_panel(panel)}</g>')
        y += max(panel.height for panel in row)
    width = _MARGIN + _COLUMNS * (_WIDTH + _MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    longest = max(value for _, value in panel.bars) or 1.0
    parts = [f'<text y="14" font-weight="bold">{escape(panel.title)}</text>']
    for number, (name, value) in enumerate(panel.bars):
        y = _ROW * (number + 1) + 4
        length = (_WIDTH - _LABEL - _VALUE) * value / longest
        colour = _OURS if name.startswith("penstock") else _OTHERS
        parts.append(
            f'<text x="{_LABEL - 6}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_ROW - 5}" fill="{colour}"/>'
            f'<text x="{_LABEL + length + 5:.1f}" y="{y + 12}">{value:.3g}</text>'
        )
    return "".join(parts)
