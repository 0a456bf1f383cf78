from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from db import Database
from db.models import AuditEvent
from db.objects import ObjectStore
from tests import dicom_variants as variants
from tests.webui.cabinet import Cabinet
from tests.webui.conftest import Person
from webui.dicomweb import keys
from webui.dicomweb.keys import Level, Match

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cabinet(database: Database, store: ObjectStore) -> Cabinet:
    return Cabinet(database, store)


def request_item(step: str, procedure: str) -> Sequence:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = step, procedure
    return Sequence([item])


@pytest.fixture
def shelf(cabinet: Cabinet) -> tuple[Dataset, Dataset, Dataset]:
    """Return two sources of different studies, and the result of the first."""
    first = variants.cr(
        variants.chest_values(12, 8, 8), PatientName="Doe^Jane", PatientID="P/1%", AccessionNumber="A1",
        StudyDate="20240501", StudyTime="101112.5", StudyID="S1", StudyDescription="Chest pa",
        ReferringPhysicianName="House^Gregory", SeriesDescription="PA", SeriesNumber=3, InstanceNumber=7,
        PatientBirthDate="19500102", PatientSex="F", PerformedProcedureStepStartDate="20240502",
        PerformedProcedureStepStartTime="0800", RequestAttributesSequence=request_item("SPS1", "RP1"),
        ProtocolName="CHEST PA 125kV", SeriesDate="20240501", PatientAge="074Y", StationName="ROOM1",
    )  # fmt: skip
    second = variants.dx(
        variants.chest_values(12, 8, 8), PatientName="Roe^Richard", PatientID="P22", AccessionNumber="B2",
        StudyDate="20240601", StudyTime="235900", StudyID="S2", StudyDescription="Thorax",
        ReferringPhysicianName="Wilson^James", SeriesDescription="lateral", SeriesNumber=4, InstanceNumber=8,
    )  # fmt: skip
    cabinet.source(first)
    result = cabinet.result(first)
    cabinet.source(second)
    return first, second, result


def found(person: Person, path: str, tag: str, **query: Any) -> list[str]:
    answer = person.get(f"/dicomweb/{path}", query_string=query)
    if answer.status_code == 204:
        assert answer.data == b""
        return []
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "application/dicom+json"
    return [item[tag]["Value"][0] for item in answer.get_json()]


FITS: tuple[dict[str, str], ...] = (
    {"StudyDate": "20240501"}, {"StudyDate": "20240401-20240531"}, {"StudyDate": "-20240531"},
    {"00080020": "20240501"}, {"StudyTime": "101112.5"}, {"StudyTime": "10"}, {"StudyTime": "0900-1011"},
    {"StudyTime": "-12"}, {"AccessionNumber": "A1"}, {"AccessionNumber": "A?"}, {"AccessionNumber": "*1"},
    {"ModalitiesInStudy": "CR"}, {"ModalitiesInStudy": "CR,MG"}, {"ModalitiesInStudy": "MG\\CR"},
    {"ReferringPhysicianName": "house^*"}, {"PatientName": "doe^jane"}, {"PatientName": "Doe^Jane^^"},
    {"PatientName": "D*"}, {"PatientID": "P/1%"}, {"PatientID": "P/*"}, {"StudyID": "S1"},
    {"StudyDescription": "Chest*"}, {"PatientBirthDate": "19500101-19500131"}, {"PatientSex": "F"},
    {"PatientName": "doe*", "StudyDate": "20240501", "StudyDescription": ""},
    {"PatientName": "*", "AccessionNumber": "A1"},
)  # fmt: skip
FITS_NOT: tuple[dict[str, str], ...] = (
    {"StudyDate": "20240502"}, {"StudyDate": "20250101-"}, {"StudyTime": "101113"}, {"StudyTime": "1012-22"},
    {"PatientID": "P_1%"}, {"PatientID": "p/1%"}, {"PatientName": "Doe"}, {"PatientName": "%"},
    {"ModalitiesInStudy": "MG"}, {"StudyInstanceUID": "1.2.3"}, {"AccessionNumber": "A"},
)  # fmt: skip


def test_every_key_of_a_study_finds_the_one_that_fits_and_no_other(
    anna: Person, shelf: tuple[Dataset, ...]
) -> None:
    for query in FITS:
        assert found(anna, "studies", "0020000D", **query) == [shelf[0].StudyInstanceUID], query
    for query in FITS_NOT:
        assert found(anna, "studies", "0020000D", **query) == [], query


def test_several_uids_are_a_list(anna: Person, shelf: tuple[Dataset, ...]) -> None:
    one, other = shelf[0].StudyInstanceUID, shelf[1].StudyInstanceUID
    for value in (f"{one},{other}", f"{one}\\{other}"):
        assert set(found(anna, "studies", "0020000D", StudyInstanceUID=value)) == {one, other}
    answer = anna.get(f"/dicomweb/studies?StudyInstanceUID={one}&StudyInstanceUID={other}")
    assert len(answer.get_json()) == 2


def test_every_key_of_a_series_finds_sources_and_results(anna: Person, shelf: tuple[Dataset, ...]) -> None:
    for query, who in (
        ({"Modality": "DX"}, [1]), ({"SeriesNumber": "3"}, [0]), ({"SeriesNumber": "1902"}, [2]),
        ({"SeriesDescription": "AI*"}, [2]), ({"SeriesDescription": "PA"}, [0]),
        ({"PerformedProcedureStepStartDate": "20240502"}, [0, 2]),
        ({"PerformedProcedureStepStartTime": "0700-0900"}, [0, 2]),
        ({"RequestAttributesSequence.ScheduledProcedureStepID": "SPS1"}, [0, 2]),
        ({"00400275.00401001": "RP1"}, [0, 2]), ({"00400275.00401001": "RP2"}, []),
        ({"PatientID": "P22"}, [1]),
    ):  # fmt: skip
        expected = {shelf[number].SeriesInstanceUID for number in who}
        assert set(found(anna, "series", "0020000E", **query)) == expected, query


def test_every_key_of_an_instance_finds_it(anna: Person, shelf: tuple[Dataset, ...]) -> None:
    first, second, result = shelf
    uid = "00080018"
    both = {first.SOPInstanceUID, result.SOPInstanceUID}
    assert found(anna, "instances", uid, SOPClassUID=second.SOPClassUID) == [second.SOPInstanceUID]
    assert set(found(anna, "instances", uid, InstanceNumber="7")) == both
    assert found(anna, "instances", uid, SOPInstanceUID=result.SOPInstanceUID) == [result.SOPInstanceUID]
    assert found(anna, "instances", uid, Rows="16") == [result.SOPInstanceUID]
    within = f"studies/{first.StudyInstanceUID}/instances"
    assert found(anna, within, uid, InstanceNumber="8") == []


def tags(person: Person, path: str) -> set[str]:
    answer = person.get(f"/dicomweb/{path}")
    return set(answer.get_json()[0])


def test_an_answer_holds_what_the_standard_asks_of_its_level(
    anna: Person, shelf: tuple[Dataset, ...]
) -> None:
    first = shelf[0]
    study = {
        "00080020", "00080030", "00080050", "00080056", "00080090", "00081190", "00100010", "00100020",
        "00100030", "00100040", "0020000D", "00200010",
    }  # fmt: skip
    counted = {"00080061", "00201206", "00201208"}
    series = {
        "00080060", "0008103E", "00081190", "0020000E", "00200011", "00201209", "00400244", "00400245",
        "00400275",
    }  # fmt: skip
    instance = {
        "00080016",
        "00080018",
        "00080056",
        "00081190",
        "00200013",
        "00280010",
        "00280011",
        "00280100",
    }
    assert study | counted <= tags(anna, "studies?PatientName=doe*")
    assert series <= tags(anna, f"studies/{first.StudyInstanceUID}/series?SeriesNumber=3")
    below = f"studies/{first.StudyInstanceUID}/series/{first.SeriesInstanceUID}/instances"
    assert instance <= tags(anna, below)
    assert study | series <= tags(anna, "series?SeriesNumber=3"), "a search over all tells the study too"
    assert study | series - {"00201209"} | instance <= tags(anna, "instances?SeriesNumber=3")
    (one,) = anna.get("/dicomweb/series?SeriesNumber=3").get_json()
    assert one["00400275"]["Value"][0]["00400009"] == {"vr": "SH", "Value": ["SPS1"]}


def test_fields_are_included_by_tag_or_keyword_in_any_form(anna: Person, shelf: tuple[Dataset, ...]) -> None:
    base = "studies?PatientName=doe*"
    assert "00101010" not in tags(anna, base)
    for form in (
        "includefield=PatientAge,00080090", "includefield=00101010&includefield=StudyID", "includefield=all",
        "includefield=PatientAge,00080060,SeriesNumber",
    ):  # fmt: skip
        told = tags(anna, f"{base}&{form}")
        assert "00101010" in told, form
        assert not told & {"00080060", "00200011", "00280010"}, "nothing of a lower level"
    (one,) = anna.get(f"/dicomweb/{base}&includefield=PatientAge").get_json()
    assert one["00101010"] == {"vr": "AS", "Value": ["074Y"]}
    series = f"studies/{shelf[0].StudyInstanceUID}/series?SeriesNumber=3&includefield="
    assert {"00181030", "00081010"} <= tags(anna, f"{series}ProtocolName,00081010")
    assert {"00181030", "00180015"} <= tags(anna, f"{series}all")
    assert {"00081030", "00101010"} <= tags(anna, f"{series}StudyDescription,PatientAge")
    everything = tags(anna, "instances?InstanceNumber=8&includefield=all")
    assert {"00281050", "00280004", "00181164", "00100010"} <= everything
    assert "7FE00010" not in everything


def test_what_a_viewer_asks_for_is_answered(anna: Person, shelf: tuple[Dataset, ...]) -> None:
    """The requests of OHIF's list of studies and of its list of series."""
    first = shelf[0]
    answer = anna.get(
        "/dicomweb/studies?PatientName=*doe*&00100020=*P*&StudyDate=19700102-20991231&limit=101&offset=0"
        "&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030&ModalitiesInStudy=CR"
    )
    assert (answer.status_code, "Warning" in answer.headers) == (200, False)
    (study,) = answer.get_json()
    assert {"00081030", "00080061", "00080090", "00100030", "00201208"} <= set(study)
    series = anna.get(f"/dicomweb/studies/{first.StudyInstanceUID}/series?includefield=0008103E%2C00080021")
    wanted = {"0008103E", "00080021", "00201209", "00200011"}
    assert [wanted - set(item) for item in series.get_json()] == [set(), set()]


def test_pages_follow_each_other_and_say_how_many_remain(anna: Person, cabinet: Cabinet) -> None:
    uids = []
    for number in range(5):
        ds = variants.cr(variants.chest_values(12, 8, 8), StudyID=str(number))
        cabinet.source(ds)
        uids.append(ds.StudyInstanceUID)
    seen: list[str] = []
    for offset, remaining in ((0, 3), (2, 1), (4, None)):
        answer = anna.get(f"/dicomweb/studies?limit=2&offset={offset}")
        seen += [item["0020000D"]["Value"][0] for item in answer.get_json()]
        text = f"There are {remaining} additional results that can be requested."
        expected = f'299 http://localhost/dicomweb "{text}"'
        assert answer.headers.get("Warning") == (expected if remaining else None)
    assert seen == uids[::-1], "newest first"
    assert anna.get("/dicomweb/studies?offset=5").status_code == 204
    assert anna.get("/dicomweb/studies?limit=0").status_code == 204
    assert len(anna.get("/dicomweb/studies?limit=100000").get_json()) == 5


def test_what_is_not_supported_is_warned_of_and_done_without(
    anna: Person, shelf: tuple[Dataset, ...]
) -> None:
    def warnings(query: str) -> list[str]:
        answer = anna.get(f"/dicomweb/studies?{query}")
        assert len(answer.get_json()) == 2
        told = answer.headers.getlist("Warning")
        return [re.sub(r'^299 http://localhost/dicomweb "(.*)"$', r"\1", text) for text in told]

    assert warnings("fuzzymatching=true") == [
        "The fuzzymatching parameter is not supported. Only literal matching has been performed."
    ]
    assert len(warnings("emptyvaluematching=true&multiplevaluematching=true")) == 2
    assert "PatientAge" in warnings("PatientAge=074Y")[0]
    assert "00091001" in warnings("includefield=00091001")[0]
    assert warnings("PatientAge=&NumberOfStudyRelatedSeries=") == []


def test_a_query_that_cannot_be_understood_is_400_and_is_not_repeated(anna: Person) -> None:
    for query in (
        "PatientNam=zzyzx", "0010001=zzyzx", "StudyDate=yesterday", "StudyDate=2024-05-01", "StudyTime=noon",
        "StudyTime=171", "SeriesNumber=seven", "SeriesNumber=99999999999", "StudyInstanceUID=1.2.zzyzx",
        "StudyInstanceUID=17*", "limit=-17", "limit=ten", "offset=1.5", "fuzzymatching=maybe",
        "includefield=Nonsense", "PatientID=17&PatientID=18", "StudyDate=2024050120240502",
        "limit=%F0%9D%9F%99", "&".join(f"000910{n:02X}=17" for n in range(70)),
    ):  # fmt: skip
        answer = anna.get(f"/dicomweb/studies?{query}")
        assert (answer.status_code, answer.mimetype) == (400, "application/problem+json"), query
        value = query.split("=")[1].split("&")[0]
        assert value not in answer.get_json()["detail"], "what was asked may be patient data"


def test_searches_are_in_json_alone(anna: Person, shelf: tuple[Dataset, ...]) -> None:
    def kind(accept: str) -> tuple[int, str]:
        answer = anna.get("/dicomweb/studies", headers={"Accept": accept})
        return answer.status_code, answer.mimetype

    assert kind("application/json") == (200, "application/json")
    assert kind("application/dicom+json, */*;q=0.1") == (200, "application/dicom+json")
    assert kind('multipart/related; type="application/dicom+xml"') == (406, "application/problem+json")


def test_what_was_searched_for_stands_in_no_log_and_without_audit_messages_in_no_trail(
    anna: Person, shelf: tuple[Dataset, ...], database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    anna.get("/dicomweb/studies?PatientName=doe*")
    anna.get("/dicomweb/studies?PatientName=doe*&StudyDate=wrong")
    told = capsys.readouterr()
    assert "doe" not in (told.out + told.err).lower()
    with database.read() as session:
        assert not [e for e in session.query(AuditEvent) if "doe" in str(e.detail).lower()]


def test_the_tables_of_keys_are_whole() -> None:
    """Every key that PS3.18 10.6.1-5 requires can be matched."""
    step = "RequestAttributesSequence"
    required: dict[Level, tuple[str, ...]] = {
        Level.STUDY: (
            "StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName",
            "PatientName", "PatientID", "StudyInstanceUID", "StudyID",
        ),
        Level.SERIES: (
            "Modality", "SeriesInstanceUID", "SeriesNumber", "PerformedProcedureStepStartDate",
            "PerformedProcedureStepStartTime", f"{step}.ScheduledProcedureStepID",
            f"{step}.RequestedProcedureID",
        ),
        Level.INSTANCE: ("SOPClassUID", "SOPInstanceUID", "InstanceNumber"),
    }  # fmt: skip
    for level, names in required.items():
        for name in names:
            key = keys.BY_KEYWORD[name]
            assert (key.level, key.match is not Match.NONE, key.source is not None) == (level, True, True)


def test_the_documentation_names_every_key() -> None:
    text = (ROOT / "docs" / "dicomweb.md").read_text()
    for key in keys.KEYS:
        if key.match is not Match.NONE:
            assert f"| `{key.keyword}` | {key.name} | {key.level.name.lower()} | {key.match.value} |" in text
