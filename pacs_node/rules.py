"""Which object is enhanced, how, and where the result goes: a function of values, without clock, disk or
network. What an entry of a rule means is `pacs_node.matching`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset

from config.settings import EnhancerSettings, Rule, Settings
from db.states import Priority
from pacs_node import anatomy, geometry, matching, provenance
from pacs_node.facts import text, words
from pacs_node.recipe import DX_FOR_PROCESSING, ENHANCEABLE_SOP_CLASSES

DEFAULT_RULE = "default"
_LARGE_SIDE = 1024
_UPLOAD, _FETCH = "upload", "fetch"
_AS_ASKED = frozenset({_UPLOAD, _FETCH})
"""Ways to come that have a priority already: a person's choice, or behind everything clinical."""
_PRIORITIES = {"stat": Priority.STAT, "routine": Priority.ROUTINE, "bulk": Priority.BULK}


@dataclass(frozen=True, slots=True)
class Asked:
    """How an object came, and what whoever brought it asked for.

    kind: `dimse`, `upload`, `stow`, `fetch` or `demo`. is_picture: a PNG, JPEG or TIFF, which a chest is
    said to be by uploading it. scale, model, destinations: wishes, None where nothing was asked. force:
    enhance it although it is not a frontal chest.
    """

    kind: str = "dimse"
    calling_ae_title: str = ""
    called_ae_title: str = ""
    address: str = ""
    is_picture: bool = False
    scale: int | None = None
    model: str | None = None
    destinations: tuple[str, ...] | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A rule that did not decide, and the first of its entries that did not match."""

    rule: str
    mismatch: matching.Mismatch


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do. `code` and `reason` say why it is skipped; the rest says how it is enhanced."""

    action: Literal["enhance", "skip"]
    rule: str
    code: str = ""
    reason: str = ""
    scale: int = 0
    model: str = ""
    priority: Priority | None = None
    destinations: tuple[str, ...] = ()
    release: Literal["auto", "review"] = "auto"
    forward_original: Literal["never", "always", "if_missing"] = "never"
    warnings: tuple[str, ...] = ()
    """What a rule asked for and could not have."""
    passed_over: tuple[PassedOver, ...] = ()


def decide(header: Dataset, rows: int, columns: int, asked: Asked, settings: Settings) -> Decision:
    """What to do with an object of `rows` x `columns` pixels.

    What can never be enhanced is skipped first; then the first of `settings.rules` that matches decides;
    then the default rule: frontal chest, CR or DX, received by DICOM, to every default destination. An
    upload is enhanced as a person asked, and goes only where that person said.
    """
    never = _never(header)
    if never is not None:
        return Decision("skip", DEFAULT_RULE, *never)
    rule, passed_over = _first_match(settings.rules, header, asked)
    if rule is not None and rule.action == "skip":
        reason = f'The rule "{rule.name}" leaves it out.'
        return Decision("skip", rule.name, "rule", reason, passed_over=passed_over)
    if rule is None and not asked.force:
        unfit = _not_by_default(header, asked)
        if unfit is not None:
            return Decision("skip", DEFAULT_RULE, *unfit, passed_over=passed_over)
    name = rule.name if rule is not None else DEFAULT_RULE
    wanted = asked.scale or (rule.scale if rule is not None else None) or settings.enhancer.scale
    scale = choose_scale(rows, columns, geometry.finest_spacing(header), wanted, settings.enhancer)
    if isinstance(scale, tuple):
        return Decision("skip", name, *scale, passed_over=passed_over)
    destinations, warnings = _destinations(rule, asked, settings)
    return Decision(
        action="enhance",
        rule=name,
        scale=scale,
        model=asked.model or (rule.model if rule is not None else None) or settings.enhancer.model,
        priority=None if asked.kind in _AS_ASKED else _priority_of(rule),
        destinations=destinations,
        release=rule.release if rule is not None else "auto",
        forward_original=rule.forward_original if rule is not None else "never",
        warnings=warnings,
        passed_over=passed_over,
    )


def most_urgent(asked: Asked, rules: tuple[Rule, ...]) -> Priority:
    """The most urgent priority that an object may come to have, by what is known before it is read.

    It is queued under that, and takes its own place once it was examined (`pacs_node.planning`).
    """
    possible: list[Priority] = []
    for rule in rules:
        fits = matching.by_caller(rule.match, _values_of(asked))
        if fits is not False:
            possible.append(_priority_of(rule))
        if fits:
            break
    else:
        possible.append(_priority_of(None))
    return min(possible)


def _priority_of(rule: Rule | None) -> Priority:
    return Priority.ROUTINE if rule is None else _PRIORITIES[rule.priority]


def choose_scale(
    rows: int, columns: int, spacing: float | None, wanted: Literal["auto"] | int, enhancer: EnhancerSettings
) -> int | tuple[str, str]:
    """The factor, or code and reason why there is none.

    wanted: "auto" or a factor. spacing: of the source in mm, None where unknown. Auto takes 4 up to a long
    side of 1024 pixels and 2 up to half of `max_output_side`; no result is larger than that or finer than
    `min_output_spacing`.
    """
    long_side = max(rows, columns)
    if wanted == "auto":
        factors = [4] if long_side <= _LARGE_SIDE else []
        factors.append(2)
    else:
        factors = [int(wanted)]
    fitting = [factor for factor in factors if long_side * factor <= enhancer.max_output_side]
    if not fitting:
        return "too-large", (
            f"The image is large already: {columns} x {rows} pixels; a result has at most"
            f" {enhancer.max_output_side} on a side."
        )
    for factor in fitting:
        # a thousandth of tolerance: spacings are written in decimals
        if spacing is None or spacing / factor >= enhancer.min_output_spacing * 0.999:
            return factor
    return "too-fine", (
        f"The image is fine already: {spacing:.3g} mm a pixel; a result is never finer than"
        f" {enhancer.min_output_spacing:g} mm."
    )


def matches(rule: Rule, header: Dataset, asked: Asked) -> bool:
    """Whether every entry of the rule's `match` fits."""
    return matching.mismatch(rule.match, header, _values_of(asked)) is None


def _first_match(
    rules: tuple[Rule, ...], header: Dataset, asked: Asked
) -> tuple[Rule | None, tuple[PassedOver, ...]]:
    """The first rule that matches, and why each one before it did not."""
    passed_over: list[PassedOver] = []
    for rule in rules:
        mismatch = matching.mismatch(rule.match, header, _values_of(asked))
        if mismatch is None:
            return rule, tuple(passed_over)
        passed_over.append(PassedOver(rule.name, mismatch))
    return None, tuple(passed_over)


def _values_of(asked: Asked) -> dict[str, str]:
    """What is known of how the object came, under the names that rules use (`matching.OF_THE_CALLER`)."""
    return {
        "CallingAETitle": asked.calling_ae_title,
        "CalledAETitle": asked.called_ae_title,
        "CallingAddress": asked.address,
        "Origin": asked.kind,
    }


def _never(header: Dataset) -> tuple[str, str] | None:
    """Code and reason of what is not enhanced whoever asks."""
    if provenance.is_own_result(header):
        return "own-result", "It is a result of this software and is not enhanced again."
    sop_class = text(header, "SOPClassUID", 64)
    if sop_class == DX_FOR_PROCESSING or "FOR PROCESSING" in words(header, "PresentationIntentType"):
        return "for-processing", "It is an image for processing: raw detector values, not for reading."
    if sop_class not in ENHANCEABLE_SOP_CLASSES:
        return "sop-class", "Objects of this kind are not enhanced; CR, DX and Secondary Capture images are."
    if "YES" in words(header, "QualityControlImage"):
        return "quality-control", "It is a quality control image (a phantom)."
    return None


def _not_by_default(header: Dataset, asked: Asked) -> tuple[str, str] | None:
    """Code and reason of what the default rule leaves out."""
    if asked.is_picture:
        return None
    by_person = asked.kind == _UPLOAD
    modality = text(header, "Modality", 16).upper()
    if not by_person and modality not in ("CR", "DX"):
        return "modality", f"Its modality is {modality or 'not stated'}; by default CR and DX are enhanced."
    if anatomy.is_phantom(header):
        return "phantom", "Its description says that it shows a phantom or is a test."
    if anatomy.is_animal(header):
        return "animal", "The patient is not human."
    chest = anatomy.shows_chest(header)
    if chest is False:
        part = anatomy.body_part_words(header)
        return "not-chest", f"It does not show the chest{f' but: {part}' if part else ''}."
    if chest is None and not by_person:
        return "body-part-unknown", "It does not say which part of the body it shows."
    if anatomy.is_frontal(header) is False:
        return "not-frontal", "It is not a frontal view; the models have learnt frontal chest radiographs."
    return None


def _destinations(
    rule: Rule | None, asked: Asked, settings: Settings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of destinations, and what could not be had."""
    if asked.destinations is not None:
        return asked.destinations, ()
    if asked.kind == _UPLOAD:
        return (), ()
    if rule is not None and rule.destinations is not None:
        names = rule.destinations
    else:
        names = tuple(destination.name for destination in settings.default_destinations)
    if rule is None or not rule.return_to_sender:
        return names, ()
    back = [
        destination.name
        for destination in settings.destinations
        if destination.kind == "dimse" and destination.ae_title == asked.calling_ae_title
    ]
    if not back:
        who = f"called {asked.calling_ae_title}" if asked.calling_ae_title else "without an AE title"
        return names, (f"It cannot go back to its sender, {who}: no destination has that AE title.",)
    return tuple(dict.fromkeys((*names, *back[:1]))), ()
