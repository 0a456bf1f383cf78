"""Fills the measured figures into model cards: `python -m enhancer.card NAME... --data FOLDER`.

A card `weights/NAME.md` is written by hand; what stands between its marks is replaced by what the model file
says of its training and by what evaluations and the physical test find, so that no figure is ever copied by
hand. Every measurement is kept in a folder, by the digest of its model, and not made twice; the ten images
where a model gains least lie there as a picture. With `tools/card.py`, which also reads DICOM, the table of
DICOM images is filled too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enhancer.errors import EnhancerError
from enhancer.evaluate import Evaluation, measure
from enhancer.evaluation import markdown
from enhancer.evaluation.images import Reader
from enhancer.evaluation.report import Report
from enhancer.model import Model, load
from enhancer.modelfile import locate, read_model
from enhancer.noise import DOSES, simulate
from enhancer.qa import report as physics
from enhancer.qa.assess import assess, pictures

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
ABLATIONS = ("<!-- ablations: begin -->", "<!-- ablations: end -->")
ABLATION_SET = "nih_512"
QA_IMAGES = 6
"""Radiographs that findings are planted in."""
KEPT = 4
"""Changes when a figure changes its meaning, so that what was measured before is measured again."""


@dataclass(frozen=True)
class Run:
    """One evaluation of a card. `shown` are the splits that are reported of what `split` measures."""

    name: str
    protocol: str
    scale: int
    split: str
    shown: tuple[str, ...]
    judge: bool = False
    side: int = 256
    datasets: tuple[str, ...] = ()
    dose: float | None = None


MAIN = Run("main", "native", 4, "val", ("report", "val"), judge=True)
SEED = Run("seed", "seed", 4, "report", ("report",))
RUNS: tuple[Run, ...] = (
    MAIN,
    SEED,
    Run("x2", "native", 2, "report", ("report",), judge=True),
    *(Run("dose", "native", 4, "report", ("report",), datasets=("nih_512",), dose=dose) for dose in DOSES),
    Run("large", "native", 2, "report", ("report",), side=1024, datasets=("nih_1024",)),
)
"""Every evaluation of a card, in the order in which they are made and shown."""
PARTS = ("main", "seed", "x2", "dose", "large", "dicom", "qa")


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
    known = {"architecture", "blocks", "channels", "name", "version", "scales", "format"}
    known |= {"iterations", "stage", "minutes", "recipe", "revision"}
    lines += [
        f"- {key}: {value}" for key, value in sorted(said.items()) if key not in known and len(value) < 80
    ]
    return "\n".join(lines)


def filled(card: str, figures: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """The card with what stands between the marks replaced; EnhancerError when a mark is missing."""
    before, begin, rest = card.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise EnhancerError(f"The card lacks the marks {marks[0]} and {marks[1]} around its figures.")
    return f"{before}{marks[0]}\n{figures}\n{marks[1]}{after}"


class Figures:
    """Measures what the cards show, once for each model file."""

    def __init__(
        self,
        data: Path,
        kept: Path,
        *,
        limit: int | None = None,
        quiet: bool = False,
        reader: Reader | None = None,
    ) -> None:
        self._data, self._kept, self._limit, self._quiet = data, kept, limit, quiet
        self.reader = reader

    def reports(self, run: Run, model: Model) -> dict[str, Report]:
        """By split. Of a half that holds no image there is no report."""
        path = self._path(run, model)
        if path.is_file():
            return {
                split: Report.from_dict(one) for split, one in json.loads(path.read_text("utf-8")).items()
            }
        self._say(f"{model.info.name}: {run.name}, {run.protocol} x{run.scale}" + _dose(run))
        found = measure(
            self._data,
            [model],
            protocol=run.protocol,
            scale=run.scale,
            side=run.side,
            split=run.split,
            limit=self._limit,
            datasets=run.datasets,
            noise=None if run.dose is None else (simulate, run.dose),
            judge=run.judge,
            quiet=self._quiet,
        )
        reports = _shown(found, run.shown)
        self._kept.mkdir(parents=True, exist_ok=True)
        text = json.dumps({split: report.to_dict() for split, report in reports.items()}, indent=1)
        path.write_text(text, encoding="utf-8")
        if run.name == MAIN.name:
            found.worst.picture().save(self._kept / f"{model.info.name}-worst.png")
        return reports

    def stored_values(self, folder: Path, model: Model, scale: int) -> str:
        """Single DICOM images, chests only and each once; they are few and measured each time."""
        assert self.reader is not None
        self._say(f"{model.info.name}: DICOM x{scale}")
        found = measure(
            folder,
            [model],
            scale=scale,
            judge=False,
            reader=self.reader,
            suffixes={".dcm"},
            keep=lambda path: path.name.startswith("chest_") and "_j2k_" not in path.name,
            quiet=self._quiet,
        )
        return markdown.stored_values(found.images, model.info.name, scale)

    def physical_test(self, model: Model) -> str:
        """The summary of the physical test at x4."""
        path = self._kept / f"{model.info.digest[:16]}-qa-{QA_IMAGES}-{KEPT}.md"
        if not path.is_file():
            self._say(f"{model.info.name}: physical test")
            found = assess(model, pictures(self._data, self._limit or QA_IMAGES), 4)
            self._kept.mkdir(parents=True, exist_ok=True)
            path.write_text(physics.summary(found), encoding="utf-8")
        return path.read_text("utf-8")

    def _path(self, run: Run, model: Model) -> Path:
        dose = "" if run.dose is None else f"-{run.dose:g}"
        limit = "" if self._limit is None else f"-{self._limit}"
        return self._kept / f"{model.info.digest[:16]}-{run.name}{dose}{limit}-{KEPT}.json"

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text, file=sys.stderr)


def _dose(run: Run) -> str:
    return "" if run.dose is None else f", {run.dose:.0%} dose"


def _shown(found: Evaluation, splits: Sequence[str]) -> dict[str, Report]:
    reports: dict[str, Report] = {}
    for split in splits:
        if split in (found.split, "all", "val") or any(image.half == split for image in found.images):
            reports[split] = found.report(split)
    return reports


def tables(models: Sequence[Model], figures: Figures, parts: Sequence[str]) -> list[str]:
    """The tables that every card shows, all models beside each other."""
    found: dict[tuple[str, float | None, str], list[Report]] = {}
    for run in RUNS:
        if run.name not in parts:
            continue
        for model in models:
            for split, report in figures.reports(run, model).items():
                found.setdefault((run.name, run.dose, split), []).append(report)
    shown: list[str] = []
    main = found.get((MAIN.name, None, "report"))
    seed = found.get((SEED.name, None, "report"))
    if main is not None:
        shown.append(f"### What was asked of a release (`report`, ×4 `native`)\n\n{markdown.promises(main)}")
    if main is not None and seed is not None and ABLATION_SET in main[0].datasets:
        shown.append(f"### Both protocols (`report`)\n\n{markdown.against_theirs(main, seed)}")
    plain = [reports for (name, _, _), reports in found.items() if name != "dose"]
    noisy = [reports for (name, _, _), reports in found.items() if name == "dose"]
    shown.append("### All figures")
    shown += [markdown.table(reports) for reports in plain]
    if noisy:
        shown.append(f"### Low dose\n\n{markdown.doses(noisy)}")
    return shown


def fill(
    names: Sequence[str],
    figures: Figures,
    *,
    parts: Sequence[str] = PARTS,
    dicom: Path | None = None,
    device: str = "auto",
) -> str:
    """Measures shipped models and rewrites their cards; returns the tables that they share."""
    cards = {name: locate(name).with_suffix(".md") for name in names}
    for path in cards.values():
        filled(_read(path), "")
    models = {name: load(name, device) for name in names}
    shared = tables(list(models.values()), figures, parts)
    for name, path in cards.items():
        own = [training_of(name), *shared]
        if "dicom" in parts and dicom is not None and figures.reader is not None:
            own.append("### DICOM images")
            own += [figures.stored_values(dicom, models[name], scale) for scale in (2, 4)]
        if "qa" in parts:
            own.append(f"### Physical test\n\n{figures.physical_test(models[name])}")
        path.write_text(filled(_read(path), "\n\n".join(own)), encoding="utf-8")
    return "\n\n".join(shared)


def fill_ablations(
    names: Sequence[str], figures: Figures, variants: Sequence[tuple[str, str]], device: str
) -> str:
    """Measures variants (label, path of a model file) on `dev` and writes their table into the cards."""
    run = Run("ablation", "native", 4, "dev", ("dev",), judge=True, datasets=(ABLATION_SET,))
    found = [(label, figures.reports(run, load(Path(path), device))["dev"]) for label, path in variants]
    table = markdown.ablations(found, ABLATION_SET)
    for name in names:
        path = locate(name).with_suffix(".md")
        path.write_text(filled(_read(path), table, ABLATIONS), encoding="utf-8")
    return table


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnhancerError(f"There is no card at {path} to fill.") from error


def main(arguments: list[str], reader: Reader | None = None) -> int:
    """Fills the cards that the arguments name; `reader` reads DICOM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cxr/val"))
    parser.add_argument("--dicom", type=Path, default=Path("../shared/data/dicom"))
    parser.add_argument("--kept", type=Path, default=Path("var/card"), help="where measurements are kept")
    parser.add_argument("--limit", type=int, help="images of each data set, for a quick look")
    parser.add_argument("--skip", nargs="*", default=[], choices=PARTS, help="parts to leave out")
    parser.add_argument(
        "--ablation",
        nargs="*",
        default=[],
        metavar="LABEL=FILE",
        help="fill only the table of these variants",
    )
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    figures = Figures(options.data, options.kept, limit=options.limit, reader=reader)
    try:
        if options.ablation:
            variants = [each.partition("=")[::2] for each in options.ablation]
            print(fill_ablations(options.names, figures, variants, options.device))
        else:
            parts = [part for part in PARTS if part not in options.skip]
            print(fill(options.names, figures, parts=parts, dicom=options.dicom, device=options.device))
    except EnhancerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
