"""Cold starts as SVG: a bar a way, cut where each phase was reached, with nothing but text."""

from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 940
_LEFT: Final = 130
_RIGHT: Final = 70
_TOP: Final = 44
_ROW: Final = 46
_BAR: Final = 26
_LEGEND_COLUMN: Final = 190
_LEGEND_COLUMNS: Final = 4
#: Instants in the order of a cold start, the colour of what leads to each, and what that is.
PHASES: Final = {
    "decided": ("#475569", "request until the decision"),
    "assigned": ("#0f766e", "assignment written"),
    "received": ("#14b8a6", "seen by the node agent"),
    "pulled": ("#7c3aed", "image on the node"),
    "created": ("#a78bfa", "container created"),
    "started": ("#2563eb", "process started"),
    "listening": ("#60a5fa", "port accepts"),
    "healthy": ("#059669", "health path answers"),
    "first_byte": ("#c2410c", "first byte of the answer"),
}


def draw(title: str, ways: Mapping[str, Mapping[str, float]]) -> str:
    """An SVG document: one bar for each way, all over the same milliseconds.

    Args:
        title: stands above.
        ways: name → instants in ms since the start of the request or command, by phase; a phase
            that a way does not have counts to the next one that it has.
    """
    end_ms = max(max(instants.values()) for instants in ways.values())
    scale = (_WIDTH - _LEFT - _RIGHT) / (end_ms or 1.0)
    parts = [f'<text x="16" y="22" font-weight="bold">{escape(title)}</text>']
    bottom = _TOP + _ROW * len(ways)
    parts.append(_axis(end_ms, scale, bottom))
    for number, (name, instants) in enumerate(ways.items()):
        parts.append(_bar(name, instants, scale, _TOP + _ROW * number))
    shown = [phase for phase in PHASES if any(phase in instants for instants in ways.values())]
    parts += [_legend(number, phase, bottom + 44) for number, phase in enumerate(shown)]
    height = bottom + 44 + 20 * -(-len(shown) // _LEGEND_COLUMNS) + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _bar(name: str, instants: Mapping[str, float], scale: float, y: int) -> str:
    parts = [f'<text x="{_LEFT - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>']
    begin_ms = 0.0
    for phase, (colour, meaning) in PHASES.items():
        if phase not in instants:
            continue
        # Clocks are read in several processes: an instant may lie a hair before the one before it.
        end_ms = max(instants[phase], begin_ms)
        took_ms = end_ms - begin_ms
        x, width = _LEFT + begin_ms * scale, took_ms * scale
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}">'
            f"<title>{escape(meaning)}: {took_ms:.1f} ms</title></rect>"
        )
        if width > 34:
            parts.append(
                f'<text x="{x + width / 2:.1f}" y="{y + 17}" fill="white" '
                f'text-anchor="middle">{took_ms:.0f}</text>'
            )
        begin_ms = end_ms
    parts.append(f'<text x="{_LEFT + begin_ms * scale + 6:.1f}" y="{y + 17}">{begin_ms:.0f}</text>')
    return "".join(parts)


def _axis(end_ms: float, scale: float, bottom: int) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + end_ms * share * scale
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom}" stroke="#e2e8f0"/>'
            f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{end_ms * share:.0f} ms</text>'
        )
    return "".join(parts)


def _legend(number: int, phase: str, y: int) -> str:
    colour, meaning = PHASES[phase]
    x = 16 + (number % _LEGEND_COLUMNS) * (_LEGEND_COLUMN + 36)
    y += 20 * (number // _LEGEND_COLUMNS)
    return (
        f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>'
        f'<text x="{x + 18}" y="{y}">{escape(meaning)}</text>'
    )
