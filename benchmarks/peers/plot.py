"""The plot: a small SVG of horizontal bars, a panel a figure, a bar a peer; GitHub shows it as an image.

Each panel has a scale of its own that begins at 0, and each bar its value in words, since some differ by a factor of a thousand.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

from benchmarks.peers.figures import FIGURES, Figure, PeerTold, Told, measured_peers
from benchmarks.report import number

KEYS = (
    "drained_per_s", "sent_per_s", "latency_p99_ms", "group_ms", "timers_p99_ms", "pss_mb", "step_ms", "steps_per_s",
    "resumed_per_s",
)  # fmt: skip
COLUMNS = 3
PANEL_WIDTH, MARGIN, NAME_WIDTH, VALUE_WIDTH = 336, 16, 126, 52
BAR_HEIGHT, BAR_GAP, HEAD_HEIGHT = 12, 6, 40
OURS, OTHERS, RANGE, TEXT, QUIET = "#1f6feb", "#aab4c0", "#3d4650", "#1f2328", "#59636e"


def svg(told: Told) -> str:
    """The whole picture, for the figures that any peer has."""
    peers = measured_peers(told)
    figures = [figure for figure in FIGURES if figure.key in KEYS and any_has(peers.values(), figure)]
    figures.sort(key=lambda figure: KEYS.index(figure.key))
    panel_height = HEAD_HEIGHT + len(peers) * (BAR_HEIGHT + BAR_GAP) + MARGIN
    width = COLUMNS * PANEL_WIDTH + 2 * MARGIN
    height = -(-len(figures) // COLUMNS) * panel_height + 2 * MARGIN
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'role="img" font-family="-apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="11">'
        ),
        "<title>taskflow and its peers, medians with the least and the greatest</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for index, figure in enumerate(figures):
        left = MARGIN + index % COLUMNS * PANEL_WIDTH
        top = MARGIN + index // COLUMNS * panel_height
        lines += panel(figure, peers, left, top)
    return "\n".join([*lines, "</svg>", ""])


def any_has(peers: Iterable[PeerTold], figure: Figure) -> bool:
    return any(peer["figures"].get(figure.key) for peer in peers)


def panel(figure: Figure, peers: dict[str, PeerTold], left: int, top: int) -> Iterator[str]:
    direction = "more is better" if figure.is_more_better else "less is better"
    yield text(left, top + 12, figure.says, color=TEXT, weight="600")
    yield text(left, top + 26, f"{figure.unit}, {direction}", color=QUIET)
    greatest = max(max(peer["figures"].get(figure.key) or [0.0]) for peer in peers.values()) or 1.0
    scale = (PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH - MARGIN) / greatest
    for row, (name, peer) in enumerate(peers.items()):
        y = top + HEAD_HEIGHT + row * (BAR_HEIGHT + BAR_GAP)
        yield text(left, y + 10, peer["title"], color=TEXT if name == "taskflow" else QUIET)
        values = peer["figures"].get(figure.key)
        if values:
            yield from bar(values, left + NAME_WIDTH, y, scale, color=OURS if name == "taskflow" else OTHERS)
        else:
            yield text(left + NAME_WIDTH, y + 10, "–", color=QUIET)


def bar(values: Sequence[float], x: int, y: int, scale: float, *, color: str) -> Iterator[str]:
    """The median as a bar, the least and the greatest as a thin line over it."""
    median, least, greatest = statistics.median(values), min(values), max(values)
    width = max(1.0, median * scale)
    yield f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2" fill="{color}"/>'
    if greatest > least:
        middle = y + BAR_HEIGHT / 2
        yield (
            f'<line x1="{x + least * scale:.1f}" y1="{middle}" x2="{x + greatest * scale:.1f}" y2="{middle}" '
            f'stroke="{RANGE}" stroke-width="1.5"/>'
        )
    yield text(x + max(width, greatest * scale) + 5, y + 10, number(median), color=TEXT)


def text(x: float, y: float, words: str, *, color: str, weight: str = "400") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-weight="{weight}">{escape(words)}</text>'
