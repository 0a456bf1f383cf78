"""Reports as tables in Markdown, for the model cards. A report holds one model; reports beside each other
are of the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from enhancer.evaluation.classical import NAME as CLASSICAL
from enhancer.evaluation.measure import Measured
from enhancer.evaluation.report import Report, Row

MIDDLE, FINE = "energy_0.125_0.25", "energy_0.25_0.5"
REMOVED = ("removed_neighbours", "removed_anatomy")


@dataclass(frozen=True)
class Promise:
    """A line of the table of what a release must show: where it is measured, and the limit for each model."""

    text: str
    dataset: str
    show: Callable[[Row], str]
    limits: dict[str, str]


def interval(row: Row, figure: str, form: str) -> str:
    """The figure and its interval: `+2.44 (2.31 to 2.57)`; a dash where it was not measured."""
    if figure not in row.figures:
        return "–"
    text = format(row.figures[figure], form)
    if figure in row.intervals:
        low, high = (format(edge, form) for edge in row.intervals[figure])
        text += f" ({low} to {high})"
    return text


def _plain(row: Row, figure: str, form: str) -> str:
    return format(row.figures[figure], form) if figure in row.figures else "–"


def _of(figure: str, form: str) -> Callable[[Row], str]:
    return lambda row: interval(row, figure, form)


PROMISES = (
    Promise(
        "PSNR over bicubic, dB", "nih_512", _of("gain", "+.2f"), {"srresnet": "≥ +3.0", "srgan": "≥ +1.5"}
    ),
    Promise(
        "PSNR over bicubic, dB", "nih_1024", _of("gain", "+.2f"), {"srresnet": "≥ +3.0", "srgan": "≥ +1.2"}
    ),
    Promise(
        "PSNR over bicubic, dB", "kermany_512", _of("gain", "+.2f"), {"srresnet": "≥ +2.6", "srgan": "≥ +1.2"}
    ),
    Promise("SSIM", "nih_512", _of("ssim", ".4f"), {"srresnet": "≥ 0.954", "srgan": "≥ 0.937"}),
    Promise(
        "GMSD, share of bicubic's",
        "nih_512",
        _of("gmsd_share", ".2f"),
        {"srresnet": "≤ 0.44", "srgan": "≤ 0.60"},
    ),
    Promise(
        "paired perceptual distance, share of bicubic's",
        "nih_512",
        _of("perceptual_share", ".2f"),
        {"srresnet": "≤ 0.64", "srgan": "≤ 0.62"},
    ),
    Promise(
        "Fréchet distance, share of bicubic's",
        "nih_512",
        _of("frechet_share", ".2f"),
        {"srresnet": "shown", "srgan": "≤ 0.16"},
    ),
    Promise(
        "energy at 0.125–0.25 / 0.25–0.5 cycles a pixel against the truth, dB",
        "nih_512",
        lambda row: f"{interval(row, MIDDLE, '+.1f')} / {interval(row, FINE, '+.1f')}",
        {"srresnet": "shown", "srgan": "within 3"},
    ),
    Promise(
        "input reproduced, grey levels of 255, RMS / 99.9th percentile of windows, of each image (of all)",
        "nih_512",
        lambda row: (
            f"{interval(row, 'consistency', '.2f')} / {_plain(row, 'consistency_p999_image', '.2f')} "
            f"({_plain(row, 'consistency_p999', '.2f')})"
        ),
        {"srresnet": "≤ 0.4 / 1.5", "srgan": "≤ 0.6 / 2"},
    ),
)


def promises(reports: Sequence[Report]) -> str:
    """What was asked of the release beside what was measured, a column a model."""
    names = [report.models[0].name for report in reports]
    head = "| | data set | " + " | ".join(f"`{name}` | asked" for name in names) + " |"
    lines = [head, "| --- " * (2 + 2 * len(names)) + "|"]
    for promise in PROMISES:
        cells: list[str] = []
        for name, report in zip(names, reports, strict=True):
            try:
                cells += [promise.show(report.row(promise.dataset, name)), promise.limits.get(name, "")]
            except KeyError:
                cells += ["–", promise.limits.get(name, "")]
        lines.append(f"| {promise.text} | {promise.dataset} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("images", lambda row: str(row.images)),
    ("method", lambda row: row.method),
    ("PSNR dB", lambda row: _plain(row, "psnr", ".2f")),
    ("over bicubic", lambda row: "" if row.method == "bicubic" else interval(row, "gain", "+.2f")),
    ("SSIM", lambda row: _plain(row, "ssim", ".4f")),
    ("MS-SSIM", lambda row: _plain(row, "ms_ssim", ".4f")),
    ("L1", lambda row: _plain(row, "l1", ".5f")),
    ("GMSD", lambda row: _plain(row, "gmsd_share", ".2f")),
    ("percept.", lambda row: _plain(row, "perceptual_share", ".2f")),
    ("Fréchet", lambda row: _plain(row, "frechet_share", ".2f")),
    ("energy dB", lambda row: f"{_plain(row, MIDDLE, '+.1f')} / {_plain(row, FINE, '+.1f')}"),
    (
        "input RMS / 99.9 %",
        lambda row: f"{_plain(row, 'consistency', '.2f')} / {_plain(row, 'consistency_p999', '.2f')}",
    ),
)


def table(reports: Sequence[Report]) -> str:
    """All figures of one run, a row a data set and method. GMSD, percept., Fréchet: shares of bicubic's."""
    first = reports[0]
    lines = [_title(first), "", _line("data set", *(head for head, _ in COLUMNS)), _rule(1 + len(COLUMNS))]
    for dataset in first.datasets:
        rows = [row for row in first.rows if row.dataset == dataset]
        for report in reports[1:]:
            seen = {row.method for row in rows}
            rows += [row for row in report.rows if row.dataset == dataset and row.method not in seen]
        lines += [_line(dataset, *(show(row) for _, show in COLUMNS)) for row in rows]
    return "\n".join([*lines, *(f"\n({sentence}.)" for sentence in first.missing)])


def doses(runs: Sequence[Sequence[Report]]) -> str:
    """Noise levels beside each other: a row a data set and dose; each model against the classical way."""
    first = runs[0][0]
    names = [report.models[0].name for report in runs[0]]
    head = ["bicubic PSNR dB", f"{CLASSICAL} PSNR dB"]
    for name in names:
        head += [f"{name} PSNR dB", "over the classical", "removed: neighbours / anatomy"]
    title = f"×{first.scale}, protocol `native`, simulated low dose (uncalibrated), split: {first.split}"
    lines = [title, "", _line("data set", "images", "dose", *head), _rule(3 + len(head))]
    for reports in runs:
        for dataset in reports[0].datasets:
            base = reports[0].row(dataset, "bicubic")
            values = [_plain(base, "psnr", ".2f"), _plain(reports[0].row(dataset, CLASSICAL), "psnr", ".2f")]
            for report, name in zip(reports, names, strict=True):
                row = report.row(dataset, name)
                values += [_plain(row, "psnr", ".2f"), interval(row, "over_classical", "+.2f")]
                values.append(" / ".join(_plain(row, figure, ".2f") for figure in REMOVED))
            lines.append(_line(dataset, str(base.images), f"{reports[0].dose:.0%}", *values))
    return "\n".join(lines) + (
        "\n\nRemoved: what the result, reduced again, lacks of its source: correlation of neighbouring "
        "pixels (reduced white noise has 0.15), and with the fine anatomy of the source without its noise."
    )


def stored_values(images: Sequence[Measured], model: str, scale: int) -> str:
    """Single files, a row each: DICOM at its stored values."""
    head = ("file", "bicubic PSNR dB", "PSNR dB", "over bicubic", "SSIM", "GMSD, share", "input RMS")
    title = f"×{scale}, protocol `native`, stored values, `{model}`; input RMS in 255ths of the values' range"
    lines = [title, "", _line(*head), _rule(len(head))]
    for image in images:
        ours, base = image.figures[model], image.figures["bicubic"]
        share = f"{ours['gmsd'] / base['gmsd']:.2f}" if base["gmsd"] else "–"
        held = f"{ours['consistency']:.2f}"
        figures = (
            f"{base['psnr']:.2f}",
            f"{ours['psnr']:.2f}",
            f"{ours['gain']:+.2f}",
            f"{ours['ssim']:.4f}",
        )
        lines.append(_line(image.path.name, *figures, share, held))
    return "\n".join(lines)


def against_theirs(native: Sequence[Report], seed: Sequence[Report], dataset: str = "nih_512") -> str:
    """Both protocols beside what the project that ours follows reports; L1 and MSE on [-1, 1], as there."""
    lines = [
        "| | PSNR dB | SSIM | MSE on [-1, 1] | L1 on [-1, 1] |",
        "| --- | --- | --- | --- | --- |",
        "| reported by the project that ours follows | 42.29 | 0.9810 | 0.0002 | 0.0099 |",
    ]
    for protocol, reports in (("native", native), ("seed", seed)):
        rows = [reports[0].row(dataset, "bicubic")]
        rows += [report.row(dataset, report.models[0].name) for report in reports]
        for row in rows:
            values = row.figures
            lines.append(
                f"| `{protocol}`, {dataset}, {row.method} | {values['psnr']:.2f} | {values['ssim']:.4f} "
                f"| {4 * values['mse']:.5f} | {2 * values['l1']:.4f} |"
            )
    return "\n".join(lines)


def ablations(named: Sequence[tuple[str, Report]], dataset: str) -> str:
    """Trained variants beside each other, a row each."""
    columns = COLUMNS[3:5] + COLUMNS[7:]
    lines = [
        f"`dev`, {dataset}, ×4 `native`; GMSD, percept. and Fréchet are shares of bicubic's",
        "",
        _line("variant", *(head for head, _ in columns)),
        _rule(1 + len(columns)),
    ]
    for label, report in named:
        row = report.row(dataset, report.models[0].name)
        lines.append(_line(label, *(show(row) for _, show in columns)))
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "| --- " * columns + "|"


def _title(report: Report) -> str:
    noise = "" if report.dose is None else f", {report.dose:.0%} dose"
    return (
        f"×{report.scale} to {report.side}×{report.side}, protocol `{report.protocol}`{noise}, "
        f"split: {report.split}; on {report.models[0].device}"
    )
