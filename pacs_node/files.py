"""Enhancing files without a service: DICOM in, derived DICOM out; a picture in, a PNG out."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from config.settings import EnhancerSettings
from enhancer import EnhancerError
from pacs_node import derive, geometry, provenance, recipe, rules, uids
from pacs_node.caveats import caveats
from pacs_node.enhancement import Enlarger, derive_from, enhance_image
from pacs_node.errors import Refused
from pacs_node.examine import Examination, Examiner
from pacs_node.provenance import Derivation
from pacs_node.secondary import PictureContext

Progress = Callable[[float], None]

WITHOUT_NODE = uuid.uuid5(uuid.NAMESPACE_URL, "cxr-sr enhance")
"""Stands for the installation where there is none: the same file with the same model gives the same UIDs."""
_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}


class NotEnhanced(Exception):
    """A file that was not enhanced; the message is for whoever asked."""


@dataclass(frozen=True, slots=True)
class Written:
    """One file enhanced: sizes as (columns, rows)."""

    source: Path
    target: Path
    scale: int
    source_size: tuple[int, int]
    result_size: tuple[int, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """One file of a folder that was not enhanced, and why."""

    source: Path
    reason: str


def enhance_path(
    source: Path,
    target: Path,
    *,
    scale: Literal["auto"] | int = "auto",
    model: Enlarger,
    progress: Progress | None = None,
) -> Iterator[Written | Failed]:
    """Enhance a file, or every file of a folder (and those below it) into a folder; yields as it goes.

    `target` of one file may be an existing folder. A file is enhanced whatever part of the body it shows:
    whoever names it asks for it. progress: called with the share done of the current image. Raises
    :class:`NotEnhanced` where a single file is refused or nothing can be written; within a folder the
    refusal is yielded.
    """
    with Examiner() as examiner:
        if not source.is_dir():
            if target.is_dir():
                target = _within(target, Path(source.name))
            yield _enhance(source, target, scale, model, examiner, progress)
            return
        if target.exists() and not target.is_dir():
            raise NotEnhanced(f"{target} is a file; for a folder of images name a folder.")
        files = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
        written = target.resolve()
        for path in files:
            if written != source.resolve() and path.resolve().is_relative_to(written):
                continue  # a result of this or an earlier run
            try:
                yield _enhance(
                    path, _within(target, path.relative_to(source)), scale, model, examiner, progress
                )
            except NotEnhanced as refusal:
                yield Failed(path, str(refusal))


def _enhance(
    source: Path,
    target: Path,
    scale: Literal["auto"] | int,
    model: Enlarger,
    examiner: Examiner,
    progress: Progress | None,
) -> Written:
    examined = _examine(source, examiner)
    image = examined.image
    assert image is not None
    if provenance.is_own_result(examined.header):
        raise NotEnhanced("It is a result of this software and is not enhanced again.")
    if not examined.is_picture and examined.facts.sop_class not in recipe.ENHANCEABLE_SOP_CLASSES:
        kinds = ", ".join(recipe.ENHANCEABLE_SOP_CLASSES.values())
        raise NotEnhanced(f"Objects of this kind are not enhanced; these are: {kinds}.")
    fmt = image.format
    spacing = geometry.finest_spacing(examined.header)
    chosen = rules.choose_scale(fmt.rows, fmt.columns, spacing, scale, EnhancerSettings())
    if isinstance(chosen, tuple):
        raise NotEnhanced(chosen[1])
    if target.resolve() == source.resolve():
        raise NotEnhanced("The result would overwrite its source; name another file.")
    try:
        enhanced = enhance_image(examined.header, image, model, chosen, progress)
    except EnhancerError as error:
        raise NotEnhanced(str(error)) from error
    except MemoryError as error:
        raise NotEnhanced("There is not enough memory for this image.") from error
    if examined.is_picture:
        _write(target, lambda path: Image.fromarray(enhanced.values).save(path, "PNG"))
    else:
        info = model.info
        assert examined.pixel_digest is not None
        names = uids.result_uids(
            WITHOUT_NODE,
            study=examined.facts.study.uid,
            source_series=examined.facts.series.uid,
            source_instance=examined.facts.sop_instance,
            pixel_digest=examined.pixel_digest,
            header_digest=examined.header_digest,
            model=info.name,
            version=info.version,
            weights_digest=info.digest,
            scale=chosen,
        )
        told = enhanced.consistency
        cautions = caveats(examined.header, fmt.rows, fmt.columns, info.domain, told)
        words = tuple(caution.words for caution in cautions)
        how = Derivation(names, chosen, info, WITHOUT_NODE, datetime.now().astimezone(), told, words)
        ds = derive_from(examined, enhanced.values, how)
        _write(target, lambda path: derive.write_file(ds, path))
    rows, columns = np.shape(enhanced.values)
    return Written(source, target, chosen, (fmt.columns, fmt.rows), (columns, rows), enhanced.seconds)


def _examine(source: Path, examiner: Examiner) -> Examination:
    try:
        received = datetime.now().astimezone()
        examined = examiner.examine(source, PictureContext(WITHOUT_NODE, "", received))
    except Refused as refused:
        raise NotEnhanced(refused.refusal.sentence) from refused
    except OSError as error:
        raise NotEnhanced(f"It cannot be read: {error.strerror}.") from error
    if examined.refusal is not None:
        raise NotEnhanced(examined.refusal.sentence)
    return examined


def _within(folder: Path, name: Path) -> Path:
    return folder / (name.with_suffix(".png") if name.suffix.lower() in _PICTURES else name)


def _write(target: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target and rename: nobody ever sees half a file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".cxr-sr-", dir=target.parent) as folder:
            path = Path(folder) / "result"
            write(path)
            path.replace(target)
    except OSError as error:
        raise NotEnhanced(f"The result cannot be written: {error.strerror}.") from error
