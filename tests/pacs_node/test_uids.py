"""The same work has the same name, other work another one, and every name is a legal UID."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pydicom.uid import UID

from pacs_node import identity, uids

ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)
KEY: dict[str, Any] = {
    "study": "1.2",
    "source_series": "1.2.3",
    "source_instance": "1.2.3.4",
    "pixel_digest": "p",
    "header_digest": "h",
    "model": "srgan",
    "version": "1",
    "weights_digest": "w",
    "scale": 4,
}


def test_a_rerun_names_the_same_object():
    assert uids.result_uids(ONE, **KEY) == uids.result_uids(ONE, **KEY)


@pytest.mark.parametrize("part", KEY)
def test_each_part_of_the_key_gives_another_instance(part):
    changed = KEY | {part: 2 if part == "scale" else "other"}

    assert uids.result_uids(ONE, **changed).instance != uids.result_uids(ONE, **KEY).instance


def test_settings_and_installation_give_another_instance():
    assert uids.result_uids(TWO, **KEY).instance != uids.result_uids(ONE, **KEY).instance
    assert uids.result_uids(ONE, **KEY, settings={"a": 1}).instance != uids.result_uids(ONE, **KEY).instance


def test_images_of_one_source_series_share_a_derived_series():
    other = KEY | {"source_instance": "9.9", "pixel_digest": "q", "header_digest": "i"}

    assert uids.result_uids(ONE, **other).series == uids.result_uids(ONE, **KEY).series


@pytest.mark.parametrize("part", ["source_series", "model", "version", "weights_digest", "scale"])
def test_a_derived_series_is_of_one_source_series_model_version_and_scale(part):
    changed = KEY | {part: 2 if part == "scale" else "other"}

    assert uids.result_uids(ONE, **changed).series != uids.result_uids(ONE, **KEY).series


def test_every_uid_is_legal():
    result = uids.result_uids(ONE, **KEY)
    for uid in (
        result.series,
        result.instance,
        uids.device_uid("srgan", "1", "w"),
        uids.creator_uid(ONE),
        uids.upload_uid(ONE, "study", "x"),
        identity.IMPLEMENTATION_CLASS_UID,
    ):
        assert UID(uid).is_valid, uid
        assert len(uid) <= 64


def test_our_own_uids_are_told_from_others():
    assert identity.is_ours(uids.device_uid("srgan", "1", "w"))
    assert identity.is_ours(uids.creator_uid(TWO))
    assert not identity.is_ours("2.25.1616367")
    assert not identity.is_ours(identity.UID_ROOT + "0.1")
    assert not identity.is_ours(None)


def test_the_names_of_file_meta_information_fit():
    assert len(identity.IMPLEMENTATION_VERSION_NAME) <= 16
