"""Deterministic UIDs of what we make: the same work on the same source names the same object, on any rerun.

Every UID is ``2.25.`` and one UUID as a decimal number (PS3.5 Annex B.2), the UUID being version 5 of a
key within the namespace of the installation. Two installations never share a UID; one installation never
makes a twin.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from pacs_node import identity

DERIVATION_VERSION = "1"
"""Counts changes of the derivation that alter the object made from the same input."""
LABEL_VERSION = "1"
"""Counts changes of labels that alter the labelled object made from the same result."""


@dataclass(frozen=True, slots=True)
class ResultUids:
    """The names of one derived object. Written into the job before anything is enhanced, never recomputed."""

    series: str
    instance: str


def uid_from(installation: uuid.UUID, *key: object) -> str:
    """A UID that depends on `installation` and every part of `key` alone, at most 44 characters."""
    text = json.dumps([str(part) for part in key], ensure_ascii=True)
    return f"2.25.{uuid.uuid5(installation, text).int}"


def result_uids(
    installation: uuid.UUID,
    *,
    study: str,
    source_series: str,
    source_instance: str,
    pixel_digest: str,
    header_digest: str,
    model: str,
    version: str,
    weights_digest: str,
    scale: int,
    settings: Mapping[str, object] | None = None,
) -> ResultUids:
    """UIDs of the object derived from one source by one model at one scale.

    The series is one for each source series, model, version and scale, so that modality, laterality and
    body part stay uniform within it. The instance depends also on what the source says and shows:
    corrected demographics or other pixels give another instance.
    """
    options = json.dumps(dict(settings or {}), sort_keys=True, default=str)
    series = uid_from(
        installation, "series", study, source_series, model, version, weights_digest, scale, options
    )
    instance = uid_from(
        installation, "instance", DERIVATION_VERSION, study, source_series, source_instance, pixel_digest,
        header_digest, model, version, weights_digest, scale, options,
    )  # fmt: skip
    return ResultUids(series=series, instance=instance)


def labelled_uids(installation: uuid.UUID, series: str, instance: str, label: str) -> ResultUids:
    """UIDs of the copy of a result with a label in its image; of the result itself for the label `none`.

    One series for each series of results and label.
    """
    if label == "none":
        return ResultUids(series=series, instance=instance)
    return ResultUids(
        series=uid_from(installation, "labelled-series", series, label),
        instance=uid_from(installation, "labelled", LABEL_VERSION, instance, label),
    )


def note_uids(installation: uuid.UUID, study: str, job_id: int, rejected: str) -> ResultUids:
    """UIDs of the note that takes the instance `rejected` back, which a job made."""
    return ResultUids(
        series=uid_from(installation, "note-series", study),
        instance=uid_from(installation, "note", study, job_id, rejected),
    )


def upload_uid(installation: uuid.UUID, kind: str, *key: object) -> str:
    """UID of a study, series or instance made for an uploaded picture; `kind` says which."""
    return uid_from(installation, "upload", kind, *key)


def device_uid(model: str, version: str, weights_digest: str) -> str:
    """DeviceUID under our root; it changes with each modification of the model, as IHE AIR asks."""
    return f"{identity.DEVICE_ARC}.{_short(model, version, weights_digest)}"


def creator_uid(installation: uuid.UUID) -> str:
    """InstanceCreatorUID under our root: which installation made the object, without naming it."""
    return f"{identity.CREATOR_ARC}.{_short(installation)}"


def _short(*key: object) -> int:
    """56 bits of a digest of `key`: at most 17 digits, so that root, arc and number stay within 64
    characters."""
    text = json.dumps([str(part) for part in key])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") or 1
