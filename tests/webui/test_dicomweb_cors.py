from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config import Settings
from config.settings import WebSettings
from db import Database, people
from tests import dicom_variants as variants
from tests.webui.cabinet import Cabinet, parts, path_of
from tests.webui.conftest import PASSWORD, Person
from webui.app import create_app
from webui.services import KEY

VIEWER = "https://viewer.example:3000"
PREFLIGHT = {
    "Origin": VIEWER,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization,accept",
}


@pytest.fixture
def open_app(settings: Settings, database: Database) -> Any:
    """Return an application that lets the pages of a viewer read."""
    web = settings.web.model_copy(update={"cors_origins": (VIEWER,)})
    made = create_app(settings.model_copy(update={"web": web}), database)
    yield made
    made.extensions[KEY].broadcaster.close()


@pytest.fixture
def page(open_app: Any) -> Person:
    """Return somebody without a login at a page of another origin."""
    return Person(open_app.test_client())


@pytest.fixture
def token(database: Database) -> str:
    with database.write() as session:
        user = people.named(session, "anna")
        assert user is not None
        return people.create_token(session, user, "viewer")[0]


def test_a_preflight_is_answered_before_any_login(page: Person) -> None:
    for path in ("/dicomweb/studies", "/dicomweb/studies/1.2/series/1.3/metadata", "/dicomweb/nothing"):
        answer = page.client.options(path, headers=PREFLIGHT)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == VIEWER
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
        assert {"GET", "POST"} <= set(answer.headers["Access-Control-Allow-Methods"].split(", "))
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    ["https://viewer.example", "http://viewer.example:3000", "https://evil.example", "null", "*", ""],
)
def test_other_pages_get_no_permission(page: Person, token: str, origin: str) -> None:
    preflight = page.client.options("/dicomweb/studies", headers=PREFLIGHT | {"Origin": origin})
    assert not [name for name, _value in preflight.headers if name.startswith("Access-Control")]
    headers = {"Origin": origin, "Authorization": f"Bearer {token}"}
    answer = page.get("/dicomweb/studies", headers=headers)
    assert answer.status_code == 204
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_page_reads_with_a_token_and_sees_why_it_may_not_without(page: Person, token: str) -> None:
    answer = page.get("/dicomweb/studies", headers={"Origin": VIEWER, "Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, VIEWER)
    assert "Warning" in answer.headers["Access-Control-Expose-Headers"]
    refused = page.get("/dicomweb/studies", headers={"Origin": VIEWER})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, VIEWER)


def test_a_login_cookie_of_ours_opens_nothing_to_other_pages(page: Person) -> None:
    assert page.login("anna", PASSWORD).status_code == 303
    answer = page.get("/dicomweb/studies", headers={"Origin": VIEWER})
    assert "Access-Control-Allow-Credentials" not in answer.headers, "so no browser hands it on"


def test_only_dicomweb_is_open(page: Person, token: str) -> None:
    headers = {"Origin": VIEWER, "Authorization": f"Bearer {token}"}
    for path in ("/api/v1/jobs", "/api/openapi.json", "/healthz", "/dicomwebs"):
        assert page.client.options(path, headers=PREFLIGHT).headers.get("Access-Control-Allow-Origin") is None
        assert page.get(path, headers=headers).headers.get("Access-Control-Allow-Origin") is None


def test_without_origins_there_are_none(visitor: Person) -> None:
    answer = visitor.client.options("/dicomweb/studies", headers=PREFLIGHT)
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["*", "viewer.example", "https://viewer.example/path", "https://*.example", ""]
)
def test_an_origin_that_is_none_stops_the_start(origin: str) -> None:
    with pytest.raises(ValidationError, match="https://HOST"):
        WebSettings(cors_origins=(origin,))


def test_a_viewer_of_another_origin_shows_a_study(page: Person, open_app: Any, token: str) -> None:
    """OHIF's way from its list to the pixels: studies, series, metadata, frames, thumbnail."""
    here = open_app.extensions[KEY]
    cabinet = Cabinet(here.database, here.store)
    ds = variants.cr(variants.chest_values(12, 64, 48))
    cabinet.source(ds)
    result = cabinet.result(ds)
    signed = {"Origin": VIEWER, "Authorization": f"Bearer {token}"}

    def ask(path: str, accept: str = "application/dicom+json") -> Any:
        answer = page.get(path, headers=signed | {"Accept": accept})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, VIEWER)
        return answer

    (study,) = ask(
        "/dicomweb/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060"
    ).get_json()
    uid = study["0020000D"]["Value"][0]
    series = ask(f"/dicomweb/studies/{uid}/series?includefield=0008103E,00080021").get_json()
    assert len(series) == 2
    for one in series:
        base = f"/dicomweb/studies/{uid}/series/{one['0020000E']['Value'][0]}"
        (instance,) = ask(f"{base}/metadata").get_json()
        for tag in ("00080016", "00080018", "00280002", "00280004", "00280010", "00280011", "00280100",
                    "00280101", "00280102", "00280103", "00083002"):  # fmt: skip
            assert instance[tag]["Value"], tag
        address = f"{base}/instances/{instance['00080018']['Value'][0]}"
        frames = ask(
            f"{address}/frames/1", "multipart/related; type=application/octet-stream; transfer-syntax=*"
        )
        ((_kind, pixels),) = parts(frames)
        rows, columns = instance["00280010"]["Value"][0], instance["00280011"]["Value"][0]
        assert len(pixels) == rows * columns * 2
        assert ask(f"{base}/thumbnail?viewport=256,256", "image/jpeg").data[:2] == b"\xff\xd8"
    assert ask(f"{path_of(result)}/rendered?accept=image/jpeg", "*/*").mimetype == "image/jpeg"
