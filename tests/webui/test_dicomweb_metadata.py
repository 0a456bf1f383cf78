from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from db import Database
from db.models import Source
from db.objects import ObjectStore
from pacs_node import codecs
from tests import dicom_variants as variants
from tests.webui.cabinet import Cabinet, parts, path_of
from tests.webui.conftest import Person
from webui.dicomweb import header

SYNTAXES = (
    codecs.EXPLICIT_VR_LITTLE_ENDIAN,
    codecs.IMPLICIT_VR_LITTLE_ENDIAN,
    codecs.EXPLICIT_VR_BIG_ENDIAN,
    codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    codecs.JPEG_LS_LOSSLESS,
)


@pytest.fixture
def cabinet(database: Database, store: ObjectStore) -> Cabinet:
    return Cabinet(database, store)


def small(**attributes: Any) -> Dataset:
    return variants.cr(variants.chest_values(12, 16, 16), **attributes)


def metadata(person: Person, ds: Dataset) -> dict[str, Any]:
    answer = person.get(f"{path_of(ds)}/metadata")
    assert (answer.status_code, answer.mimetype) == (200, "application/dicom+json")
    (found,) = answer.get_json()
    return dict(found)


def values(found: dict[str, Any], tag: str) -> Any:
    return found[tag].get("Value")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_attribute_of_the_header_is_told_whatever_its_encoding(
    anna: Person, cabinet: Cabinet, syntax: str
) -> None:
    ds = small(PatientName="Doe^Jane", SeriesNumber="7", PixelPaddingValue=0, OtherPatientIDs=["A1", "B2"])
    ds.WindowCenter, ds.WindowWidth = ["2047.5", "100"], ["4095", "50"]
    ds.AnatomicRegionSequence = Sequence([variants._code("51185008", "SCT", "Chest")])
    if syntax == codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        ds.file_meta.TransferSyntaxUID = UID(syntax)
    else:
        ds = variants.encoded(ds, syntax)
    cabinet.source(ds)
    found = metadata(anna, ds)
    present = {f"{element.tag:08X}" for element in ds if element.tag.group > 2}
    assert present <= set(found)
    assert set(found) - present == {"00083002"}
    assert values(found, "00083002") == [syntax]
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}
    assert found["00101000"] == {"vr": "LO", "Value": ["A1", "B2"]}
    assert found["00200011"] == {"vr": "IS", "Value": [7]}
    assert found["00281050"] == {"vr": "DS", "Value": [2047.5, 100.0]}
    assert found["00280120"] == {"vr": "US", "Value": [0]}, "a VR that implicit encoding leaves open"
    assert found["00280010"] == {"vr": "US", "Value": [16]}
    assert values(found, "00082218")[0]["00080100"] == {"vr": "SH", "Value": ["51185008"]}
    assert list(found) == sorted(found)
    assert found["7FE00010"]["BulkDataURI"] == f"http://localhost{path_of(ds)}/bulkdata/7FE00010"


@pytest.mark.parametrize("syntax", SYNTAXES[:4])
def test_long_binary_values_lie_at_their_uri_in_little_endian(
    anna: Person, cabinet: Cabinet, syntax: str
) -> None:
    ds = small()
    plane = np.arange(3000, dtype="<u2").tobytes()
    ds.add_new(0x60003000, "OW", plane)
    icon = Dataset()
    icon.Rows = icon.Columns = 40
    icon.PixelData = bytes(range(160)) * 10
    icon["PixelData"].VR = "OB"
    ds.IconImageSequence = Sequence([icon])
    short = np.arange(20, dtype="<u2").tobytes()
    ds.add_new(0x60023000, "OW", short)
    pixels = ds.PixelData
    if syntax == codecs.EXPLICIT_VR_BIG_ENDIAN:
        ds = variants.encoded(ds, syntax)
        for tag, data in ((0x60003000, plane), (0x60023000, short)):
            ds[tag].value = np.frombuffer(data, "<u2").byteswap().tobytes()
    else:
        ds.file_meta.TransferSyntaxUID = UID(syntax)
    cabinet.source(ds)
    found = metadata(anna, ds)
    assert base64.b64decode(found["60023000"]["InlineBinary"]) == short
    nested = values(found, "00880200")[0]["7FE00010"]["BulkDataURI"]
    for uri, expected in (
        (found["60003000"]["BulkDataURI"], plane),
        (nested, bytes(range(160)) * 10),
        (found["7FE00010"]["BulkDataURI"], pixels),
    ):
        ((kind, data),) = parts(anna.get(uri))
        assert kind.startswith("application/octet-stream")
        assert data == expected
        assert anna.get(uri, headers={"Accept": "application/octet-stream"}).data == expected
        assert anna.get(uri, headers={"Accept": "image/gif"}).status_code == 406
    for where in ("00100010", "60043000", "nonsense", "00880200/7/7FE00010", "00880200/0/00280010"):
        assert anna.get(f"{path_of(ds)}/bulkdata/{where}").status_code == 404, where


@pytest.mark.parametrize(
    ("charset", "name", "groups"),
    [
        (
            ["", "ISO 2022 IR 149"],
            "Hong^Gildong=洪^吉洞=홍^길동",
            {"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞", "Phonetic": "홍^길동"},
        ),
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
            {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
        ),
        ("ISO_IR 192", "=山田^太郎", {"Ideographic": "山田^太郎"}),
        ("ISO_IR 100", "Müller^Jörg", {"Alphabetic": "Müller^Jörg"}),
    ],
)
def test_names_in_any_character_set_are_told_in_utf_8(
    anna: Person, cabinet: Cabinet, charset: Any, name: str, groups: dict[str, str]
) -> None:
    ds = small()
    ds.SpecificCharacterSet = charset
    ds.PatientName = name
    cabinet.source(ds)
    found = metadata(anna, ds)
    assert values(found, "00100010") == [groups]
    assert values(found, "00080005") == ["ISO_IR 192"]
    (study,) = anna.get("/dicomweb/studies").get_json()
    assert values(study, "00100010") == [groups]
    for part in groups.values():
        assert anna.get("/dicomweb/studies", query_string={"PatientName": part}).status_code == 200, part


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("charset", ["ISO_IR 999", ["ISO 2022 IR 6", "nonsense"], "ISO-IR 100"])
def test_a_character_set_that_does_not_exist_costs_no_more_than_its_letters(
    anna: Person, cabinet: Cabinet, charset: Any
) -> None:
    """pydicom#815, pynetdicom#201: a bad character set must not fail the whole."""
    ds = small(PatientName="Doe^Jane", StudyDescription="Chest")
    ds.SpecificCharacterSet = charset
    cabinet.source(ds)
    found = metadata(anna, ds)
    assert values(found, "00100010") == [{"Alphabetic": "Doe^Jane"}]
    assert values(found, "00081030") == ["Chest"]


def test_values_that_break_the_rules_of_their_vr_are_told_as_they_are_written(
    anna: Person, cabinet: Cabinet
) -> None:
    ds = small()
    ds.file_meta.TransferSyntaxUID = UID(codecs.EXPLICIT_VR_LITTLE_ENDIAN)
    cabinet.source(ds)
    whole = cabinet.stored(ds.SOPInstanceUID)
    centre = struct.pack("<HH2sH", 0x28, 0x1050, b"DS", 4)
    odd = whole.replace(centre + b"2048", centre + b"abcd")
    assert odd != whole
    cabinet.store.spool.joinpath("odd.dcm").write_bytes(odd)
    with cabinet.database.write() as session:
        row = session.query(Source).one()
        stored = cabinet.store.put(cabinet.store.spool / "odd.dcm", "sources", ".dcm")
        row.object_key, row.sha256 = stored.key, stored.sha256
    assert metadata(anna, ds)["00281050"] == {"vr": "DS", "Value": ["abcd"]}


def test_a_study_and_a_series_are_lists_of_their_instances(anna: Person, cabinet: Cabinet) -> None:
    ds = small()
    cabinet.source(ds)
    result = cabinet.result(ds)
    study = anna.get(f"/dicomweb/studies/{ds.StudyInstanceUID}/metadata").get_json()
    assert {values(one, "00080018")[0] for one in study} == {ds.SOPInstanceUID, result.SOPInstanceUID}
    series = path_of(result).rsplit("/instances", 1)[0]
    (one,) = anna.get(f"{series}/metadata").get_json()
    assert values(one, "0008103E") == ["AI enhanced x2"]
    assert anna.get("/dicomweb/studies/1.2.3/metadata").status_code == 404
    other = anna.get(f"{series}/metadata", headers={"Accept": "application/dicom+xml"})
    assert (other.status_code, other.mimetype) == (406, "application/problem+json")


def put_instead(cabinet: Cabinet, content: bytes) -> None:
    """Let the store hold something else than what was examined."""
    file = cabinet.store.spool / "other.dcm"
    file.write_bytes(content)
    with cabinet.database.write() as session:
        row, stored = session.query(Source).one(), cabinet.store.put(file, "sources", ".dcm")
        row.object_key, row.sha256 = stored.key, stored.sha256


def test_a_header_beyond_the_limits_is_not_read(anna: Person, cabinet: Cabinet) -> None:
    ds = small()
    cabinet.source(ds)
    many = Sequence([Dataset() for _ in range(20)])
    for item in many:
        item.RetrieveURL = "x" * 200_000
    ds.ReferencedImageSequence = many
    ds["ReferencedImageSequence"].is_undefined_length = True
    put_instead(cabinet, variants.written(ds, cabinet.store.spool / "big.dcm").read_bytes())
    answer = anna.get(f"{path_of(ds)}/metadata")
    assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:cxr-sr:problem:unreadable")
    (known,) = anna.get(f"/dicomweb/studies/{ds.StudyInstanceUID}/metadata").get_json()
    assert values(known, "00080018") == [ds.SOPInstanceUID], "a study tells what the rows know"


def test_an_attribute_that_is_too_long_is_left_out_and_that_is_said(anna: Person, cabinet: Cabinet) -> None:
    ds = small()
    cabinet.source(ds)
    long = Dataset()
    long.RetrieveURL = "x" * (header.MAX_HEADER_BYTES - 100_000)
    ds.ReferencedImageSequence = Sequence([long])
    put_instead(cabinet, variants.written(ds, cabinet.store.spool / "long.dcm").read_bytes())
    answer = anna.get(f"{path_of(ds)}/metadata")
    (found,) = answer.get_json()
    assert "00081140" not in found
    assert values(found, "00100020") == [ds.PatientID]
    assert "left out" in answer.headers["Warning"]


def test_sequences_without_end_are_an_unreadable_header_not_a_crash(anna: Person, cabinet: Cabinet) -> None:
    ds = small()
    cabinet.source(ds)
    whole = variants.written(ds, cabinet.store.spool / "whole.dcm").read_bytes()
    sequence = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    deep = (sequence + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 20_000
    at = whole.index(struct.pack("<HH2s", 0x10, 0x10, b"PN"))
    put_instead(cabinet, whole[:at] + deep)
    assert anna.get(f"{path_of(ds)}/metadata").status_code == 409


def test_a_deflated_bomb_is_inflated_only_as_far_as_a_header_goes(
    anna: Person, cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = small()
    ds.file_meta.TransferSyntaxUID = UID(codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    cabinet.source(ds)
    ds.add_new(0x60003000, "OW", bytes(64 << 20))
    put_instead(cabinet, variants.written(ds, cabinet.store.spool / "bomb.dcm").read_bytes())
    written: list[int] = []
    inflate = header._inflate

    def watched(stream: Any, start: int, plain: Any, most: int) -> None:
        inflate(stream, start, plain, most)
        written.append(plain.seek(0, 2))

    monkeypatch.setattr(header, "_inflate", watched)
    assert anna.get(f"{path_of(ds)}/metadata").status_code == 409
    assert max(written) <= 9 << 20


@pytest.mark.parametrize("cut", [200, 400, 900])
def test_an_object_cut_short_is_an_unreadable_header_or_a_shorter_one(
    anna: Person, cabinet: Cabinet, cut: int
) -> None:
    ds = small()
    cabinet.source(ds)
    put_instead(cabinet, variants.written(ds, cabinet.store.spool / "whole.dcm").read_bytes()[:cut])
    assert anna.get(f"{path_of(ds)}/metadata").status_code in {200, 409}
    assert anna.get(f"{path_of(ds)}/frames/1").status_code == 409


def test_metadata_reads_back_as_the_same_data_set(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.with_private_block(variants.with_shutter(small()))
    cabinet.source(ds)
    back = Dataset.from_json(metadata(anna, ds), lambda _tag, _vr, _uri: b"")
    stored = dcmread(variants.written(ds, cabinet.store.spool / "again.dcm"))
    for element in stored:
        if element.tag not in (0x7FE00010, 0x00080005):
            assert back[element.tag].VR == element.VR
            assert back[element.tag].value == element.value, element.tag
