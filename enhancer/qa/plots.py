"""Curves as a PNG, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 36, 52
STEPS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Distances between ticks; the first that gives at most eight is taken."""
COLOURS = ((110, 110, 110), (0, 90, 181), (220, 50, 32), (0, 130, 90), (150, 80, 180))
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Curve:
    """A line through points; with `marked` each point shows."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    marked: bool = False


def plot(title: str, x_name: str, curves: Sequence[Curve], *, limit: float | None = None) -> Image.Image:
    """Axes from 0 to the largest value; `limit` draws an upright line, as at what a source can hold."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    small, large = ImageFont.load_default(size=12), ImageFont.load_default(size=15)
    across = max((value for curve in curves for value in curve.x), default=1.0) or 1.0
    up = 1.05 * max((value for curve in curves for value in curve.y), default=1.0) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + x / across * inner_width, HEIGHT - BOTTOM - max(y, 0.0) / up * inner_height

    draw.text((LEFT, 10), title, fill="black", font=large)
    for value in ticks(up):
        y = at(0, value)[1]
        draw.line([(LEFT, y), (WIDTH - RIGHT, y)], fill=(228, 228, 228))
        draw.text((LEFT - 6, y), f"{value:g}", fill="black", font=small, anchor="rm")
    for value in ticks(across):
        draw.text((at(value, 0)[0], HEIGHT - BOTTOM + 6), f"{value:g}", fill="black", font=small, anchor="mt")
    draw.line([at(0, up), at(0, 0), at(across, 0)], fill="black")
    draw.text((WIDTH / 2, HEIGHT - 10), x_name, fill="black", font=small, anchor="mb")
    if limit is not None and limit <= across:
        draw.line([at(limit, 0), at(limit, up)], fill=(160, 160, 160), width=1)
        draw.text((at(limit, up)[0] + 4, TOP + 4), "source's limit", fill=(120, 120, 120), font=small)
    for index, curve in enumerate(curves):
        colour: Colour = COLOURS[index % len(COLOURS)]
        points = [at(x, y) for x, y in zip(curve.x, curve.y, strict=True)]
        draw.line(points, fill=colour, width=2, joint="curve")
        for x, y in points if curve.marked else []:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        top = TOP + 22 + 16 * index
        draw.line([(WIDTH - 150, top + 7), (WIDTH - 130, top + 7)], fill=colour, width=3)
        draw.text((WIDTH - 124, top), curve.name, fill="black", font=small)
    return picture


def ticks(end: float) -> list[float]:
    """Round values from 0 to at most `end`."""
    step = next((step for step in STEPS if end / step <= 8), end)
    return [round(index * step, 6) for index in range(int(end / step + 1e-9) + 1)]
