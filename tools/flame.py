"""Draws a flame graph: folded stacks in (`frame;frame;frame COUNT` a line, as py-spy's raw format has them), an SVG out.

    py-spy record --format raw --gil -o stacks.txt -p PID
    python tools/flame.py "a worker under load" < stacks.txt > docs/images/flame-worker.svg

Each row is a call deeper, each width the share of samples; a hover tells the frame and its share.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from html import escape

WIDTH, ROW, SMALLEST, LETTER = 1200, 17, 0.002, 6.3


class Frame:
    """A frame with its samples, and the frames it called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.samples = 0
        self.called: dict[str, Frame] = {}


def read(lines: Iterable[str]) -> Frame:
    """Return the root of all stacks."""
    root = Frame("all")
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        frame = root
        frame.samples += int(count)
        for name in stack.split(";"):
            frame = frame.called.setdefault(name, Frame(name))
            frame.samples += int(count)
    return root


def boxes(frame: Frame, total: int, x: float = 0, depth: int = 0) -> Iterator[tuple[Frame, float, float, int]]:
    """Return each frame that is wide enough to see, where it begins, how wide it is, and how deep."""
    width = frame.samples / total
    if width >= SMALLEST:
        yield frame, x, width, depth
        for called in sorted(frame.called.values(), key=lambda each: each.name):
            yield from boxes(called, total, x, depth + 1)
            x += called.samples / total


def draw(root: Frame, title: str) -> Iterator[str]:
    """Return the lines of the SVG."""
    drawn = list(boxes(root, root.samples))
    height = (max(depth for *_, depth in drawn) + 3) * ROW
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="10">'
    yield f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    yield f'<text x="6" y="13" font-size="12">{escape(title)}: {root.samples} samples</text>'
    for frame, x, width, depth in drawn:
        left, wide, top = x * WIDTH, width * WIDTH, (depth + 1) * ROW + 4
        shown = escape(frame.name[: max(0, int(wide / LETTER) - 1)])
        yield f"<g><title>{escape(frame.name)} ({width:.1%})</title>"
        yield f'<rect x="{left:.1f}" y="{top}" width="{wide - 0.5:.1f}" height="{ROW - 1}" fill="{_colour(frame.name)}"/>'
        yield f'<text x="{left + 3:.1f}" y="{top + 12}">{shown}</text></g>'
    yield "</svg>"


def _colour(name: str) -> str:
    """The same for all frames of a file; warm for this project's, grey for others'."""
    file = name.rpartition("(")[2].partition(":")[0]
    shade = blake2b(file.encode(), digest_size=1).digest()[0] % 60
    return f"hsl({20 + shade // 2}, 85%, {62 + shade // 4}%)" if "callboard" in file else f"hsl(210, 10%, {74 + shade // 5}%)"


if __name__ == "__main__":
    print("\n".join(draw(read(sys.stdin), sys.argv[1])))
