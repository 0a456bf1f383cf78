"""Our DICOMweb server as a client of others sees it, beside Orthanc's plug-in that holds the same objects.

Every request goes to both with `dicomweb-client`. Where the answers are meant to differ, the difference
stands in a table here and in docs/dicomweb.md; anything else is a fault.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from db import Database, people, presence
from db.models import Job, Source
from db.objects import LocalStore
from pacs_node import codecs
from tests import dicom_variants as variants
from tests.interop.conftest import Orthanc, Roles
from tests.pacs_node.nodes import eventually, make_database, make_settings
from tests.webui.cabinet import Cabinet, path_of
from webui import server
from webui.dicomweb.keys import KEYS, Level

pytestmark = pytest.mark.peer("orthanc", "orthanc-dicomweb")

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"


@dataclass
class Both:
    """Our server and Orthanc, the same objects in both, and a client for each."""

    ours: DICOMwebClient
    theirs: DICOMwebClient
    url: str
    token: str
    cabinet: Cabinet
    orthanc: Orthanc

    @property
    def clients(self) -> tuple[DICOMwebClient, DICOMwebClient]:
        return self.ours, self.theirs

    @property
    def bases(self) -> tuple[str, str]:
        return f"{self.url}/dicomweb", f"http://127.0.0.1:{self.orthanc.http_port}/dicom-web"

    def get(self, path: str, **headers: str) -> tuple[requests.Response, requests.Response]:
        """The same request to both."""
        signed = {"Authorization": f"Bearer {self.token}"} | headers
        ours = requests.get(self.bases[0] + path, headers=signed, timeout=60)
        return ours, requests.get(self.bases[1] + path, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, _orthanc: Orthanc) -> Iterator[Both]:
    orthanc = _orthanc
    orthanc.clear()
    settings = make_settings(tmp_path_factory.mktemp("node"))
    settings = settings.model_copy(update={"web": settings.web.model_copy(update={"port": 0})})
    database = make_database(settings)
    with database.write() as session:
        user = people.add_user(session, "viewer", "radiologist", "correct horse battery")
        token, _row = people.create_token(session, user, "viewer")
    with Roles(settings, server.run):
        url = f"http://127.0.0.1:{_port(database)}"
        ours = DICOMwebClient(f"{url}/dicomweb", headers={"Authorization": f"Bearer {token}"})
        theirs = DICOMwebClient(f"http://127.0.0.1:{orthanc.http_port}/dicom-web")
        cabinet = Cabinet(database, LocalStore(settings.data_dir / "objects"))
        yield Both(ours, theirs, url, token, cabinet, orthanc)
    database.close()


def _port(database: Database) -> int:
    found: list[int] = []

    def listens() -> list[int]:
        with database.read() as session:
            found.extend(int(row.info["port"]) for row in presence.alive(session) if row.role == "web")
        return found

    assert eventually(listens, 60)
    return found[0]


def make_sources() -> tuple[Dataset, Dataset]:
    """Two studies of what modalities send: native with an overlay and Japanese names, and compressed."""
    native = variants.with_overlay(
        variants.cr(
            variants.chest_values(12, 64, 48), photometric="MONOCHROME1", PatientID="P1", StudyID="S1",
            AccessionNumber="ACC1", StudyDescription="Chest pa", SeriesDescription="PA", SeriesNumber=3,
            StudyDate="20240501", StudyTime="101112", PatientBirthDate="19500102", PatientSex="F",
            ReferringPhysicianName="House^Gregory", InstanceNumber=7,
        )
    )  # fmt: skip
    native.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    native.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    native.WindowCenter, native.WindowWidth = "2000", "3000"
    other = variants.cr(
        variants.chest_values(12, 64, 48), PatientName="Doe^Jane", PatientID="P2", StudyDate="20240601",
        StudyTime="080910", AccessionNumber="ACC2", StudyID="S2", SeriesNumber=1, InstanceNumber=1,
    )  # fmt: skip
    return native, variants.encoded(other, codecs.JPEG_LS_LOSSLESS)


@pytest.fixture(scope="module")
def objects(both: Both) -> list[Dataset]:
    """Return what both hold: a native source, its result, and a compressed source."""
    native, compressed = make_sources()
    both.cabinet.source(native)
    made = [native, both.cabinet.result(native), compressed]
    both.cabinet.source(compressed)
    for ds in made:
        _give(both.orthanc, variants.written(ds, both.cabinet.store.spool / "theirs.dcm").read_bytes())
    return made


def _give(orthanc: Orthanc, content: bytes) -> None:
    answer = requests.post(f"http://127.0.0.1:{orthanc.http_port}/instances", data=content, timeout=60)
    answer.raise_for_status()


def place(ds: Dataset) -> tuple[str, str, str]:
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


def path(ds: Dataset) -> str:
    """The address of an instance below either service."""
    return path_of(ds).removeprefix("/dicomweb")


_ABOVE = {key.name for key in KEYS if key.level < Level.INSTANCE}
ONLY_THEIRS: dict[str, set[str]] = {
    "search": {"00080005"},
    "within": {"00080005"} | _ABOVE,
    "metadata": set(),
}
"""Tags that Orthanc tells and we do not. Searches: the character set, as JSON is in UTF-8. Searches within a
study: attributes of the study, which PS3.18 10.6.3.3.2 asks of searches over all studies alone."""
ONLY_OURS: dict[str, set[str]] = {
    "search": {"00080056"},
    "within": {"00080056"},
    "metadata": {"00083002", "7FE00010"},
}
"""Tags that we tell and Orthanc does not. Metadata: the transfer syntax that the object is available in, and
where compressed pixels lie (of native ones both say it)."""
OTHER_VALUE = {"00081190", "00080005"}
"""Tags whose values differ by their nature: addresses, and the character set that the JSON model is in."""


def same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], key: str, kind: str) -> list[str]:
    """What differs between two lists of data sets, in words; empty where nothing does."""
    first, second = ({item[key]["Value"][0]: item for item in items} for items in (ours, theirs))
    found = [] if set(first) == set(second) else [f"objects: {sorted(set(first) ^ set(second))}"]
    for uid in set(first) & set(second):
        one, other = first[uid], second[uid]
        found += [f"{tag} only theirs" for tag in set(other) - set(one) - ONLY_THEIRS[kind]]
        found += [f"{tag} only ours" for tag in set(one) - set(other) - ONLY_OURS[kind]]
        for tag in set(one) & set(other) - OTHER_VALUE:
            a, b = plain(one[tag], kind), plain(other[tag], kind)
            if a != b:
                found.append(f"{tag}: {a} and {b}")
    return sorted(set(found))


def plain(model: dict[str, Any], kind: str) -> Any:
    """A value without what both may choose: numbers as text or number, no value or none, bulk or inline."""
    if "BulkDataURI" in model or "InlineBinary" in model:
        return model["vr"], "binary"
    values: list[Any] = []
    for value in model.get("Value") or []:
        if model["vr"] == "SQ":
            value = {tag: plain(inner, kind) for tag, inner in sorted(value.items())}
        elif model["vr"] in {"DS", "IS"} and value is not None:
            value = float(value)
        elif model["vr"] == "PN" and kind != "metadata":  # its index reads no ISO 2022 escapes
            value = value.get("Alphabetic")
        values.append(value)
    return model["vr"], values


@pytest.mark.slow
def test_searches_find_and_tell_the_same_as_orthanc(both: Both, objects: list[Dataset]) -> None:
    native, result, compressed = objects
    fields = ["StudyDescription", "00080090", "00100030"]
    for query in (
        {}, {"PatientID": "P1"}, {"StudyDate": "20240501-20240531"}, {"StudyDate": "20240602-"},
        {"AccessionNumber": "ACC2"}, {"ModalitiesInStudy": "CR"}, {"PatientID": "nobody"},
        {"StudyInstanceUID": compressed.StudyInstanceUID},
    ):  # fmt: skip
        ours, theirs = (c.search_for_studies(search_filters=query, fields=fields) for c in both.clients)
        assert same(ours, theirs, STUDY, "search") == [], query
    for text in ("PatientName=doe*", "PatientName=*jane", "AccessionNumber=ACC?", "StudyDescription=Chest*"):
        # not by the client: the plug-in does not undo its escapes
        answers = both.get(f"/studies?{text}&includefield=StudyDescription")
        ours, theirs = (answer.json() for answer in answers)
        assert ours
        assert same(ours, theirs, STUDY, "search") == [], text
    escaped = both.ours.search_for_studies(search_filters={"PatientName": "Doe^J*"})
    assert [item[STUDY]["Value"] for item in escaped] == [[compressed.StudyInstanceUID]]
    study = native.StudyInstanceUID
    for query in (
        {},
        {"Modality": "CR"},
        {"SeriesNumber": "3"},
        {"SeriesInstanceUID": result.SeriesInstanceUID},
    ):
        ours, theirs = (c.search_for_series(study, search_filters=query) for c in both.clients)
        assert same(ours, theirs, SERIES, "within") == [], query
    for series in (None, native.SeriesInstanceUID):
        ours, theirs = (c.search_for_instances(study, series) for c in both.clients)
        assert same(ours, theirs, INSTANCE, "within") == []
    first, second = (
        [c.search_for_studies(limit=1, offset=offset) for offset in (0, 1)] for c in both.clients
    )
    assert [len(page) for page in first] == [len(page) for page in second] == [1, 1]
    assert len(both.ours.search_for_studies(limit=1, get_remaining=True)) == 2


@pytest.mark.slow
def test_metadata_and_bulk_data_are_those_of_orthanc(both: Both, objects: list[Dataset]) -> None:
    native, result, compressed = objects
    for ds in (native, result, compressed):
        ours, theirs = ([c.retrieve_instance_metadata(*place(ds))] for c in both.clients)
        assert same(ours, theirs, INSTANCE, "metadata") == []
    study, series, _instance = place(native)
    ours, theirs = (c.retrieve_study_metadata(study) for c in both.clients)
    assert same(ours, theirs, INSTANCE, "metadata") == []
    ours, theirs = (c.retrieve_series_metadata(study, series) for c in both.clients)
    assert same(ours, theirs, INSTANCE, "metadata") == []
    for client, base in zip(both.clients, both.bases, strict=True):
        uri = client.retrieve_instance_metadata(*place(native))["7FE00010"]["BulkDataURI"]
        below = uri[uri.index("/studies/") :]  # the client leaves the port out of Host, so the URI lacks it
        octets = ("application/octet-stream",)
        assert client.retrieve_bulkdata(base + below, media_types=octets) == [native.PixelData]


@pytest.mark.slow
def test_objects_and_frames_are_those_of_orthanc_to_the_byte(both: Both, objects: list[Dataset]) -> None:
    native, result, compressed = objects
    as_stored = (("application/dicom", "*"),)
    for ds in (native, result, compressed):
        ours, theirs = (c.retrieve_instance(*place(ds), media_types=as_stored) for c in both.clients)
        assert ours == theirs
        assert ours.PixelData == ds.PixelData
        assert ours.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
    for ds in (native, compressed):
        study, series, _instance = place(ds)
        for ask in (
            lambda c, study=study: c.retrieve_study(study, media_types=as_stored),
            lambda c, study=study, series=series: c.retrieve_series(study, series, media_types=as_stored),
        ):
            one, other = ({ds.SOPInstanceUID: ds for ds in ask(client)} for client in both.clients)
            assert one == other
    octets = (("application/octet-stream", codecs.EXPLICIT_VR_LITTLE_ENDIAN),)
    for ds in (native, result):
        for client in both.clients:
            assert client.retrieve_instance_frames(*place(ds), [1], media_types=octets) == [ds.PixelData]
        assert both.ours.retrieve_instance_frames(*place(ds), [1]) == [ds.PixelData], "without a wish too"
    jls = (("image/jls", codecs.JPEG_LS_LOSSLESS),)
    mine, yours = (c.retrieve_instance_frames(*place(compressed), [1], media_types=jls) for c in both.clients)
    assert mine == yours


@pytest.mark.slow
def test_rendered_pictures_are_those_of_orthanc_within_a_shade(both: Both, objects: list[Dataset]) -> None:
    native, result, compressed = objects
    for ds in (native, result):
        for window in ("2000,3000,linear", "1500,800,linear"):
            answers = both.get(f"{path(ds)}/rendered?window={window}", Accept="image/png")
            ours, theirs = (picture(answer.content) for answer in answers)
            assert ours.shape == theirs.shape == (ds.Rows, ds.Columns)
            assert np.abs(ours - theirs).max() <= 1, window
    for client in both.clients:
        for media in ("image/jpeg", "image/png"):
            for ds in (native, compressed):
                made = client.retrieve_instance_rendered(*place(ds), media_types=(media,))
                assert picture(made).shape == (64, 48)
    series = path(native).rpartition("/instances")[0]
    answers = both.get(f"{series}/rendered?viewport=24,24", Accept="image/png")
    small = [picture(answer.content) for answer in answers]
    assert small[0].shape == (24, 18), "proportions are kept"
    assert small[1].shape == (24, 24), "Orthanc fills up with black"


def picture(data: bytes) -> np.ndarray[Any, np.dtype[np.int16]]:
    with Image.open(io.BytesIO(data)) as found:
        return np.asarray(found.convert("L")).astype(np.int16)


@pytest.mark.slow
def test_what_is_stored_is_answered_for_as_orthanc_does(
    both: Both, objects: list[Dataset], tmp_path: Path
) -> None:
    sent = [dcmread(variants.written(ds, tmp_path / "sent.dcm")) for ds in make_sources()]
    ours, theirs = (client.store_instances(sent) for client in both.clients)
    assert references(ours) == references(theirs) == {ds.SOPInstanceUID for ds in sent}
    assert not ours.get("FailedSOPSequence")
    for answer in (ours, theirs):
        for item in answer.ReferencedSOPSequence:
            assert item.RetrieveURL.endswith(f"/instances/{item.ReferencedSOPInstanceUID}")
    waits, _ = both.get(path(sent[0]))
    assert (waits.status_code, waits.headers["Retry-After"]) == (409, "5"), "examined first, then shown"
    with both.cabinet.database.read() as session:
        stored = session.query(Job).join(Source).filter(Source.origin_kind == "stow")
        jobs = [job.id for job in stored]
    for job in jobs:
        both.cabinet.examine(job)
    assert both.ours.retrieve_instance(*place(sent[0])).PixelData == sent[0].PixelData
    with pytest.raises(requests.HTTPError) as refused:
        both.ours.store_instances([sent[0]], study_instance_uid=sent[1].StudyInstanceUID)
    assert refused.value.response.status_code == 409


def references(answer: Dataset) -> set[str]:
    return {item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence}


STATUSES: tuple[tuple[str, dict[str, str], int, int], ...] = (
    ("/studies/1.2.3", {}, 404, 404),
    ("/studies/1.2.3/metadata", {}, 404, 404),
    ("/studies?limit=none", {}, 400, 400),
    ("/studies?NoSuchAttribute=1", {}, 400, 200),
    ("/studies?PatientID=nobody", {}, 204, 200),
    ("{instance}/frames/2", {}, 404, 400),
    ("{instance}/frames/0", {}, 400, 400),
    ("{instance}/frames/1", {"Accept": "text/html"}, 406, 400),
    ("{instance}", {"Accept": "image/jpeg"}, 406, 400),
    ("{instance}/metadata", {"Accept": "text/html"}, 406, 400),
)
"""Request, headers, our status, Orthanc's. Ours follow PS3.18: 204 for no match, 406 for what is not made,
404 for a frame that is not there."""


@pytest.mark.slow
def test_refusals_have_the_status_of_the_standard(both: Both, objects: list[Dataset]) -> None:
    found = []
    for asked, headers, _ours, _theirs in STATUSES:
        ours, theirs = both.get(asked.format(instance=path(objects[0])), **headers)
        found.append((asked, headers, ours.status_code, theirs.status_code))
        if ours.status_code >= 400:
            assert ours.headers["Content-Type"] == "application/problem+json", asked
    assert tuple(found) == STATUSES
    for token in ("", "wrong"):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.get(f"{both.url}/dicomweb/studies", headers=headers, timeout=60)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_the_files_of_this_test_are_sound(tmp_path: Path) -> None:
    """Comparisons of broken objects would prove nothing."""
    for ds in make_sources():
        assert dcmread(variants.written(ds, tmp_path / "a.dcm")).pixel_array.shape == (64, 48)
