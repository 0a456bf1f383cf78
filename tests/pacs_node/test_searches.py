"""What an archive says of the study that was picked there for a picture, and what cannot be used of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.network import Archive
from db import batches, commands
from pacs_node import pull, searches
from pacs_node.pull import Found, Query, StudyFound
from pacs_node.searches import Searches
from pacs_node.secondary import IDENTITY
from tests.pacs_node.nodes import eventually, make_database, make_settings

OLD = Archive(name="old", ae_title="OLD", host="127.0.0.1", port=104)
SAID = {"PatientName": "Kim^Minsu=金^民洙", "PatientID": "K-1", "StudyDate": "20240105"}


def identify(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *studies: StudyFound, **arguments: str
) -> tuple[dict[str, Any], list[Query]]:
    """The answer to the command, and what the archive was asked."""
    asked: list[Query] = []

    def search(_archive: Archive, _settings: object, query: Query, _limit: int) -> Found:
        asked.append(query)
        return Found(list(studies))

    monkeypatch.setattr(searches, "search", search)
    settings = make_settings(folder).model_copy(update={"archives": (OLD,)})
    database = make_database(settings)
    with database.write() as session:
        wanted = {"archive": "old", "study": "1.2.3"} | arguments
        number = commands.ask(session, batches.ROLE, searches.IDENTIFY, wanted)
    Searches(settings, database).step()

    def answered() -> dict[str, Any] | None:
        with database.read() as session:
            return commands.result(session, number).answer

    assert eventually(answered, 30)
    answer = answered()
    database.close()
    return answer, asked


def test_one_study_is_asked_for_by_its_uid_whatever_its_modality(tmp_path, monkeypatch):
    answer, asked = identify(tmp_path, monkeypatch, StudyFound("1.2.3", SAID), StudyFound("1.2.3.4", {}))
    assert answer["ok"], answer
    assert answer["identity"] == dict.fromkeys(IDENTITY, "") | SAID | {"StudyInstanceUID": "1.2.3"}
    (query,) = asked
    assert (query.matches, query.modalities) == ({"StudyInstanceUID": "1.2.3"}, pull.ANY_MODALITY)
    assert {*query.shown, "StudyInstanceUID"} == set(IDENTITY)
    assert pull.of_modality(StudyFound("1", {"ModalitiesInStudy": ["MR"]}), query.modalities)


@pytest.mark.parametrize(
    ("studies", "words"),
    [
        ([], "does not have this study"),
        ([("1.2.3.4", {})], "does not have this study"),
        ([("1.2.3", SAID), ("1.2.3", SAID | {"PatientID": "K-2"})], "more than one patient"),
        ([("1.2.3", SAID | {"PatientID": "A\\B"})], "PatientID of this study"),
        ([("1.2.3", SAID | {"StudyDate": "2024-01-05"})], "StudyDate of this study"),
        ([("1.2.3", SAID | {"AccessionNumber": "1" * 17})], "AccessionNumber of this study"),
        ([("1.2.3", SAID | {"PatientName": "K" * 65})], "PatientName of this study"),
        ([("1.2.3", SAID | {"PatientName": "Kim\nMinsu"})], "PatientName of this study"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words_without_the_value(tmp_path, monkeypatch, studies, words):
    answer, _ = identify(tmp_path, monkeypatch, *(StudyFound(uid, shown) for uid, shown in studies))
    assert not answer["ok"]
    assert words in answer["message"]
    assert "Kim" not in answer["message"]


@pytest.mark.parametrize("arguments", [{"archive": "moon"}, {"study": "1.2.3*"}, {"study": ""}])
def test_a_pick_that_makes_no_sense_is_answered(tmp_path, monkeypatch, arguments):
    answer, asked = identify(tmp_path, monkeypatch, StudyFound("1.2.3", SAID), **arguments)
    assert not answer["ok"]
    assert asked == []
