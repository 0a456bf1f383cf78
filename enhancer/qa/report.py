"""A physical test as a page in Markdown with plots, as JSON, and as the short table that a card shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from enhancer.qa.assess import Assessment, Findings
from enhancer.qa.field import Noise
from enhancer.qa.plots import Curve, plot


def write(found: Assessment, out: Path) -> Path:
    """Writes report.md, report.json and the plots into `out`, made where missing; returns report.md."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(found.to_dict(), indent=1), encoding="utf-8")
    for name, picture in plots(found).items():
        picture.save(out / name)
    page = out / "report.md"
    page.write_text(markdown(found), encoding="utf-8")
    return page


SUMMARY: tuple[tuple[str, Callable[[Findings], str]], ...] = (
    (
        "sharpness: 50 % / 10 % of the truth's modulation, cycles a result pixel",
        lambda found: f"{found.sharpness.half:.3f} / {found.sharpness.tenth:.3f}",
    ),
    (
        "edge: overshoot, share of the step / moved by, result pixels",
        lambda found: f"{found.sharpness.overshoot:.1%} / {found.sharpness.shift:+.2f}",
    ),
    (
        "even field: noise kept, share of the source's / beyond what the source holds",
        lambda found: f"{found.noise.sigma:.2f} / {found.noise.beyond:.1%}",
    ),
    ("even field: noise correlated over, result pixels", lambda found: f"{found.noise.correlation:.1f}"),
    (
        "even field without noise: invented, largest, grey levels of 255",
        lambda found: f"{found.noise.invented:.2f}",
    ),
    (
        "bars at 0.9 of the limit: modulation",
        lambda found: f"{min(found.bars, key=lambda bar: abs(bar.of_limit - 0.9)).modulation:.2f}",
    ),
    (
        "bars beyond the limit: strongest false pattern, share of the planted",
        lambda found: f"{max(bar.false for bar in found.bars):.2f}",
    ),
    (
        "discs in noise, contrast 2 %: recovered / contrast to noise (radius 8)",
        lambda found: _disc(found, 0.02, 8.0),
    ),
    ("text: recovered / distorted", lambda found: "{:.2f} / {:.2f}".format(*found.marks["text"][:2])),
    (
        "collimation edge: recovered / distorted",
        lambda found: "{:.2f} / {:.2f}".format(*found.marks["collimation edge"][:2]),
    ),
    ("nodules planted, radius 3 / 6 / 12: recovered", lambda found: _planted(found, "nodule")),
    ("lines planted, width 1 / 2 / 4: recovered", lambda found: _planted(found, "line")),
    (
        "pneumothorax edges planted, pleura of 1 / 2 / 4: recovered",
        lambda found: _planted(found, "pneumothorax"),
    ),
    (
        "planted findings: largest change elsewhere, share of their contrast",
        lambda found: f"{max((one.elsewhere for one in found.survival), default=0):.1%}",
    ),
    (
        "nodule-like error where nothing is, radius 3 / 6, grey levels of 255",
        lambda found: " / ".join(f"{one.worst:.1f}" for one in found.false_structure) or "–",
    ),
)


def summary(found: Assessment) -> str:
    """The short table, a column a method."""
    lines = [
        f"Objects of known truth, ×{found.scale}, {found.images} `dev` images (`cxr-sr qa`)",
        "",
        "| | " + " | ".join(found.methods) + " |",
        "| --- " * (1 + len(found.methods)) + "|",
    ]
    for text, show in SUMMARY:
        lines.append(f"| {text} | " + " | ".join(show(one) for one in found.methods.values()) + " |")
    return "\n".join(lines)


PAGE = """# Physical test of `{model}` {version}, ×{scale}

SHA-256 of the model file: `{digest}`. Every object is made at the result's size, reduced as a detector with
larger pixels would see it, and enlarged again. Lengths are in result pixels, contrasts in shares of the
range of grey. Research only: this qualifies no device.

{summary}

## Sharpness

A slanted edge. The source's limit is {limit:g} cycles a pixel; what is transferred beyond it was not in the
source: for a step it is right, for a finding it is a guess.

![modulation transfer](sharpness.png)

## Noise

White noise of 2 % of the range in the source of an even field. An enlarger that knows nothing spreads it
smoothly; power beyond the source's limit, or a peak, is structure made out of noise.

![noise power](noise.png)

{noise}

## Bars

Waves below and beyond the source's limit. Beyond it the right answer is an even field; what comes out at
another frequency is a false pattern: an alias that the reduction left, and that may then be sharpened.

![bars](bars.png)

{bars}

## Discs of low contrast

{discs}

## Planted findings

Planted into radiographs before the reduction; the result with the finding less the result without.
Recovered is the part that has the finding's shape (1: all of it), distorted what else changed there,
elsewhere the largest change further away, as a share of the contrast. Text and collimation edge are planted
in a phantom.

{survival}

## False structure

Nodule-like differences from the truth where nothing was planted, by a matched filter: the contrast of the
nodule that the strongest would pass for, grey levels of 255, and the 99th percentile over all places.

{false}
"""


def markdown(found: Assessment) -> str:
    """The whole page."""
    return PAGE.format(
        model=found.model,
        version=found.version,
        digest=found.digest,
        scale=found.scale,
        limit=0.5 / found.scale,
        summary=summary(found),
        noise=_noise(found),
        bars=_bars(found),
        discs=_discs(found),
        survival=_survival(found),
        false=_false(found),
    )


def plots(found: Assessment) -> dict[str, Image.Image]:
    """By file name."""
    limit = 0.5 / found.scale
    methods = found.methods.items()
    edges = [Curve(name, one.sharpness.frequencies, one.sharpness.transfer) for name, one in methods]
    powers = [Curve(name, one.noise.frequencies, one.noise.power) for name, one in methods]
    bars = [
        Curve(name, [bar.cycles for bar in one.bars], [bar.modulation for bar in one.bars], marked=True)
        for name, one in methods
    ]
    false = [
        Curve(f"{name}, false", [b.cycles for b in one.bars], [b.false for b in one.bars], marked=True)
        for name, one in methods
    ]
    cycles = "cycles a result pixel"
    return {
        "sharpness.png": plot("Modulation transfer, share of the truth's", cycles, edges, limit=limit),
        "noise.png": plot(
            "Noise power, 1: white noise of the source's deviation", cycles, powers, limit=limit
        ),
        "bars.png": plot("Bars: amplitude, share of the truth's", cycles, bars + false, limit=limit),
    }


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _noise(found: Assessment) -> str:
    head = ["", *found.methods]
    shows: dict[str, Callable[[Noise], str]] = {
        "standard deviation, share of the source's": lambda one: f"{one.sigma:.2f}",
        "power beyond the source's limit": lambda one: f"{one.beyond:.1%}",
        "correlated over, pixels": lambda one: f"{one.correlation:.1f}",
        "strongest at, cycles a pixel": lambda one: f"{one.peak:.3f}",
        "invented without noise, largest / RMS, grey levels of 255": (
            lambda one: f"{one.invented:.2f} / {one.invented_rms:.3f}"
        ),
    }
    rows = [[text, *(show(one.noise) for one in found.methods.values())] for text, show in shows.items()]
    return _table(head, rows)


def _bars(found: Assessment) -> str:
    head = ["of the limit", *(f"{name}: modulation / false" for name in found.methods)]
    rows = [
        [f"{same[0].of_limit:g}", *(f"{bar.modulation:.2f} / {bar.false:.2f}" for bar in same)]
        for same in zip(*(one.bars for one in found.methods.values()), strict=True)
    ]
    return _table(head, rows)


def _discs(found: Assessment) -> str:
    head = ["radius", "contrast", *(f"{name}: recovered / contrast to noise" for name in found.methods)]
    rows = [
        [
            f"{same[0].radius:g}",
            f"{same[0].contrast:.0%}",
            *(f"{one.recovered:.2f} / {one.contrast_to_noise:.1f}" for one in same),
        ]
        for same in zip(*(one.discs for one in found.methods.values()), strict=True)
    ]
    return _table(head, rows)


def _survival(found: Assessment) -> str:
    head = ["finding", "size", "contrast"]
    head += [f"{name}: recovered / distorted / elsewhere" for name in found.methods]
    rows = [
        [
            same[0].kind,
            f"{same[0].size:g}",
            f"{same[0].contrast:.0%}",
            *(f"{one.recovered:.2f} / {one.distorted:.2f} / {one.elsewhere:.0%}" for one in same),
        ]
        for same in zip(*(one.survival for one in found.methods.values()), strict=True)
    ]
    for name in next(iter(found.methods.values())).marks:
        marks = [one.marks[name] for one in found.methods.values()]
        rows.append([name, "", "", *(f"{a:.2f} / {b:.2f} / {c:.0%}" for a, b, c in marks)])
    return _table(head, rows)


def _false(found: Assessment) -> str:
    head = ["radius", *(f"{name}: strongest / usual" for name in found.methods)]
    rows = [
        [f"{same[0].radius:g}", *(f"{one.worst:.1f} / {one.usual:.1f}" for one in same)]
        for same in zip(*(one.false_structure for one in found.methods.values()), strict=True)
    ]
    return _table(head, rows)


def _disc(found: Findings, contrast: float, radius: float) -> str:
    one = next(one for one in found.discs if (one.contrast, one.radius) == (contrast, radius))
    return f"{one.recovered:.2f} / {one.contrast_to_noise:.1f}"


def _planted(found: Findings, kind: str) -> str:
    sizes: dict[float, list[float]] = {}
    for one in found.survival:
        if one.kind == kind:
            sizes.setdefault(one.size, []).append(one.recovered)
    return " / ".join(f"{sum(each) / len(each):.2f}" for each in sizes.values()) or "–"
