from __future__ import annotations

from flask import Flask

from tests.webui.conftest import PASSWORD, Person


def test_a_change_without_the_sessions_token_is_refused(anna: Person) -> None:
    for headers in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": ""}):
        answer = anna.client.post("/api/v1/jobs/search", json={}, headers=headers)
        assert answer.status_code == 403
        assert answer.get_json()["type"] == "urn:cxr-sr:problem:csrf"


def test_the_token_may_come_as_a_header_or_as_a_form_field(anna: Person) -> None:
    assert anna.post("/api/v1/jobs/search", json={}).status_code == 200
    answer = anna.client.post("/logout", data={"csrf_token": anna.csrf})
    assert answer.status_code == 303


def test_one_sessions_token_is_no_use_to_another(anna: Person, root: Person) -> None:
    answer = root.client.post("/api/v1/jobs/search", json={}, headers={"X-CSRF-Token": anna.csrf})
    assert answer.status_code == 403


def test_a_request_from_another_site_is_refused_even_with_the_token(anna: Person) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert anna.post("/api/v1/jobs/search", json={}, headers=headers).status_code == 403
    same = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert anna.post("/api/v1/jobs/search", json={}, headers=same).status_code == 200


def test_another_site_cannot_log_a_browser_in(app: Flask) -> None:
    data = {"name": "anna", "password": PASSWORD}
    answer = app.test_client().post("/login", data=data, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
