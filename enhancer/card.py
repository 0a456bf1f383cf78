"""Fills the measured figures into a model card: `python -m enhancer.card NAME --data FOLDER`.

The card `weights/NAME.md` is written by hand; what stands between its two marks is replaced by what the
model file says of its training and by what an evaluation finds, so that no figure is ever copied by hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Literal

from enhancer.errors import EnhancerError
from enhancer.evaluate import Report, evaluate
from enhancer.model import load
from enhancer.modelfile import locate, read_model

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

RUNS: tuple[tuple[str, int, Literal["all", "report"]], ...] = (
    ("native", 4, "all"),
    ("native", 4, "report"),
    ("native", 2, "all"),
    ("seed", 4, "all"),
)
"""Protocol, scale and patients of the tables in a card, in order."""


def training_of(name: str) -> str:
    """What the model file's header says of how it was made, as a list in Markdown."""
    file = read_model(locate(name))
    said = file.metadata
    lines = [
        f"- version {file.version}, SHA-256 `{file.digest}`",
        f"- architecture `{said['architecture']}`, {said['blocks']} blocks of {said['channels']} channels",
    ]
    if "iterations" in said:
        lines.append(
            f"- stage `{said['stage']}`: {said['iterations']} iterations in {said['minutes']} minutes"
        )
        lines.append(f"- recipe `{said['recipe'][:12]}`, source revision `{said['revision'][:12]}`")
    return "\n".join(lines)


def table_of(report: Report) -> str:
    """A report as a table in Markdown, with bicubic's and Lanczos' rows beside the model's."""
    lines = [
        f"×{report.scale}, protocol `{report.protocol}`, patients: {report.patients}; on {report.device}",
        "",
        "| data set | images | method | PSNR dB | over bicubic | SSIM | L1 | input RMS |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report.rows:
        values = row.figures
        gain = values["psnr"] - report.row(row.dataset, "bicubic").figures["psnr"]
        lines.append(
            f"| {row.dataset} | {row.images} | {row.method} | {values['psnr']:.2f} | {gain:+.2f} "
            f"| {values['ssim']:.4f} | {values['l1']:.5f} | {values['consistency']:.2f} |"
        )
    return "\n".join(lines)


def filled(card: str, figures: str) -> str:
    """The card with what stands between the marks replaced; EnhancerError when a mark is missing."""
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise EnhancerError(f"The card lacks the marks {BEGIN} and {END} around its figures.")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def fill(name: str, data: Path, *, limit: int | None = None, device: str = "auto") -> str:
    """Evaluates a shipped model and rewrites its card; returns the new figures."""
    path = locate(name).with_suffix(".md")
    try:
        card = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnhancerError(f"There is no card at {path} to fill.") from error
    filled(card, "")
    model = load(name, device)
    parts = [training_of(name)]
    for protocol, scale, patients in RUNS:
        report = evaluate(data, protocol=protocol, scale=scale, limit=limit, patients=patients, model=model)
        parts.append(table_of(report))
    figures = "\n\n".join(parts)
    path.write_text(filled(card, figures), encoding="utf-8")
    return figures


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m enhancer.card", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cxr/val"))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    try:
        print(fill(options.name, options.data, limit=options.limit, device=options.device))
    except EnhancerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
