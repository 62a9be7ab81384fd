"""Plots as SVG, written by ourselves: bars of ratios, and curves on logarithmic scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_COLOURS = ("#2a6f97", "#c8553d", "#588157", "#8d6a9f")
_ROW, _LEFT, _WIDTH = 26, 120, 760
_FONT = "font-family='sans-serif' font-size='12'"
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: our seconds over a peer's, and the aim."""

    label: str
    ratio: float
    reach: float | None = None


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Draw ratios from a fiftieth to twice, on a logarithmic scale; a stroke marks the aim."""
    low, high = 0.02, 2.0

    def x(value: float) -> float:
        place = math.log(min(max(value, low), high) / low) / math.log(high / low)
        return _LEFT + place * (_WIDTH - _LEFT - 60)

    bottom = 40 + _ROW * len(rows)
    parts = [f"<text x='10' y='20' {_FONT} font-weight='bold'>{escape(title)}</text>"]
    for mark in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        parts.append(f"<path d='M{x(mark):.1f} 32V{bottom}' stroke='#ccc'/>")
        parts.append(_text(x(mark), bottom + 16, f"{mark:g}", "middle"))
    for number, row in enumerate(rows):
        top = 38 + _ROW * number
        width = x(row.ratio) - _LEFT
        parts.append(
            f"<rect x='{_LEFT}' y='{top}' width='{width:.1f}' height='16' fill='{_COLOURS[0]}'/>"
        )
        parts.append(_text(_LEFT - 8, top + 13, row.label, "end"))
        parts.append(_text(x(row.ratio) + 6, top + 13, f"{row.ratio:.2f}", "start"))
        if row.reach is not None:
            parts.append(
                f"<path d='M{x(row.reach):.1f} {top - 3}v22' stroke='{_COLOURS[1]}' stroke-width='2'/>"
            )
    return _svg(parts, bottom + 30)


def curves(title: str, across: str, up: str, lines: Mapping[str, Curve]) -> str:
    """Draw curves over logarithmic axes; a dotted line shows growth as the work grows."""
    points = [point for line in lines.values() for point in line if min(point) > 0]
    if not points:
        return _svg([_text(10, 20, title, "start")], 40)
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    right, high = max(right, left * 1.01), max(high, low * 1.01)
    plot = 280

    def place(point: tuple[float, float]) -> str:
        over = math.log(point[0] / left) / math.log(right / left)
        above = math.log(point[1] / low) / math.log(high / low)
        return f"{_LEFT + over * (_WIDTH - _LEFT - 160):.1f} {40 + plot * (1 - above):.1f}"

    parts = [f"<text x='10' y='20' {_FONT} font-weight='bold'>{escape(title)}</text>"]
    parts.append(f"<path d='M{_LEFT} 40V{40 + plot}H{_WIDTH - 160}' fill='none' stroke='#888'/>")
    parts += [
        _text(_LEFT - 6, 46, f"{high:.3g}", "end"),
        _text(_LEFT - 6, 320, f"{low:.3g}", "end"),
    ]
    parts += [_text(_LEFT, 338, f"{left:g}", "middle")]
    parts += [
        _text(_WIDTH - 160, 338, f"{right:g} {across}", "middle"),
        _text(10, 180, up, "start"),
    ]
    straight = min(high, low * right / left)
    end = (left * straight / low, straight)
    parts.append(
        f"<path d='M{place((left, low))}L{place(end)}' stroke='#888' stroke-dasharray='2 4'/>"
    )
    for number, (label, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        drawn = [place(point) for point in line if min(point) > 0]
        if not drawn:
            continue
        parts.append(
            f"<path d='M{'L'.join(drawn)}' fill='none' stroke='{colour}' stroke-width='2'/>"
        )
        x, y = drawn[-1].split()
        parts.append(_text(float(x) + 8, float(y) + 4, label, "start", colour))
    return _svg(parts, 350)


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    return f"<text x='{x:.1f}' y='{y}' text-anchor='{anchor}' fill='{colour}' {_FONT}>{escape(text)}</text>"


def _svg(parts: Sequence[str], height: int) -> str:
    inside = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{height}'>\n"
        f"<rect width='100%' height='100%' fill='white'/>\n{inside}\n</svg>\n"
    )
