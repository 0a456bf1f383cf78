"""People, tokens, logins and the audit trail, over the REST interface and as plain forms."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from flask import Flask

from db import Database, audit
from tests.webui.conftest import PASSWORD, Person

PAGES = (
    "/admin",
    "/admin/settings",
    "/admin/rules",
    "/admin/destinations",
    "/admin/users",
    "/admin/tokens",
    "/admin/sessions",
    "/admin/audit",
    "/admin/models",
    "/jobs/1/log",
)
ROUTES = (
    ("get", "/api/v1/settings"),
    ("post", "/api/v1/rules/test"),
    ("post", "/api/v1/destinations/pacs/test-image"),
    ("get", "/api/v1/users"),
    ("post", "/api/v1/users"),
    ("post", "/api/v1/users/1/disable"),
    ("post", "/api/v1/users/1/enable"),
    ("post", "/api/v1/users/1/role"),
    ("post", "/api/v1/users/1/password"),
    ("post", "/api/v1/users/1/sessions/end"),
    ("get", "/api/v1/sessions"),
    ("post", "/api/v1/sessions/1/end"),
    ("get", "/api/v1/tokens"),
    ("post", "/api/v1/tokens"),
    ("post", "/api/v1/tokens/1/revoke"),
    ("get", "/api/v1/audit"),
    ("get", "/api/v1/audit/export"),
    ("get", "/api/v1/jobs/1/log"),
)


def trail(database: Database, action: str) -> list[tuple[str, str | None, dict[str, object]]]:
    with database.read() as session:
        rows, _ = audit.page(session, audit.Filter(action=action))
        return [(row.actor, row.object_id, row.detail) for row in rows]


@pytest.fixture
def ids(root: Person) -> dict[str, int]:
    return {user["name"]: user["id"] for user in root.get("/api/v1/users").get_json()["users"]}


@pytest.mark.parametrize("page", PAGES)
def test_pages_of_the_administrator_are_closed_to_readers(anna: Person, visitor: Person, page: str) -> None:
    assert anna.get(page).status_code == 403
    assert visitor.get(page).status_code == 303


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_routes_of_the_administrator_are_closed_to_readers(anna: Person, method: str, route: str) -> None:
    assert getattr(anna, method)(route).status_code == 403


def test_readers_see_no_way_to_where_they_may_not_go(anna: Person, root: Person) -> None:
    assert 'href="/admin"' not in anna.get("/queue").text
    assert 'href="/admin"' in root.get("/queue").text


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("/admin", "/jobs/1/log")])
def test_pages_of_the_administrator_open(root: Person, page: str) -> None:
    answer = root.get(page)
    assert answer.status_code == 200
    assert f'<a href="{page}" aria-current="page">' in answer.text


def test_a_new_person_logs_in_with_the_password_that_was_shown_once(
    app: Flask, root: Person, database: Database
) -> None:
    answer = root.post("/api/v1/users", json={"name": "eve", "role": "admin"})
    assert answer.status_code == 201
    told = answer.get_json()
    assert told["user"]["must_change_password"]
    assert told["password"] not in root.get("/api/v1/users").text
    eve = Person(app.test_client())
    assert eve.login("eve", told["password"]).headers["Location"] == "/account"
    assert trail(database, "user.add") == [("root", str(told["user"]["id"]), {"role": "admin"})]
    assert root.post("/api/v1/users", json={"name": "eve"}).status_code == 422


def test_the_form_shows_the_password_and_says_why_a_name_is_refused(app: Flask, root: Person) -> None:
    page = root.post("/admin/users", data={"name": "eve", "role": "radiologist"})
    [password] = re.findall(r'class="secret"[^>]*>([^<]+)<', page.text)
    assert page.headers["Cache-Control"] == "no-store"
    assert password not in root.get("/admin/users").text
    assert Person(app.test_client()).login("eve", password).status_code == 303
    again = root.post("/admin/users", data={"name": "eve"})
    assert again.status_code == 422
    assert "There is a user &#39;eve&#39; already." in again.text


def test_someone_shut_out_is_out_at_once_and_may_come_back(
    app: Flask, anna: Person, root: Person, ids: dict[str, int], database: Database
) -> None:
    assert root.post(f"/api/v1/users/{ids['anna']}/disable").get_json()["disabled"]
    assert anna.get("/api/v1/me").status_code == 401
    assert Person(app.test_client()).login("anna").status_code == 401
    assert not root.post(f"/api/v1/users/{ids['anna']}/enable").get_json()["disabled"]
    assert Person(app.test_client()).login("anna").status_code == 303
    assert [row[0] for row in trail(database, "user.")] == ["root", "root"]


def test_the_last_administrator_cannot_lock_everybody_out(root: Person, ids: dict[str, int]) -> None:
    for path, body in (("disable", None), ("role", {"role": "radiologist"})):
        answer = root.post(f"/api/v1/users/{ids['root']}/{path}", json=body)
        assert answer.status_code == 409
        assert "last administrator" in answer.get_json()["detail"]
    page = root.post(f"/admin/users/{ids['root']}/disable")
    assert page.status_code == 409
    assert "last administrator" in page.text
    assert root.get("/api/v1/me").status_code == 200


def test_another_role_counts_from_the_next_login(
    app: Flask, anna: Person, root: Person, ids: dict[str, int], database: Database
) -> None:
    assert root.post(f"/admin/users/{ids['anna']}/role", data={"role": "admin"}).status_code == 303
    assert anna.get("/api/v1/me").status_code == 401
    assert anna.login("anna").status_code == 303
    assert anna.get("/admin/users").status_code == 200
    assert trail(database, "user.role") == [("root", str(ids["anna"]), {"role": "admin"})]


def test_a_new_password_ends_the_old_one(app: Flask, anna: Person, root: Person, ids: dict[str, int]) -> None:
    page = root.post(f"/admin/users/{ids['anna']}/password").text
    [password] = re.findall(r'class="secret"[^>]*>([^<]+)<', page)
    assert anna.get("/api/v1/me").status_code == 401
    assert Person(app.test_client()).login("anna", PASSWORD).status_code == 401
    assert Person(app.test_client()).login("anna", password).headers["Location"] == "/account"


def test_logins_are_listed_and_ended(
    anna: Person, root: Person, ids: dict[str, int], database: Database
) -> None:
    found = root.get("/api/v1/sessions").get_json()["sessions"]
    assert {(one["user"], one["current"]) for one in found} == {("anna", False), ("root", True)}
    theirs = next(one["id"] for one in found if one["user"] == "anna")
    assert root.post(f"/admin/sessions/{theirs}/end").status_code == 303
    assert anna.get("/api/v1/me").status_code == 401
    anna.login("anna")
    assert root.post(f"/api/v1/users/{ids['anna']}/sessions/end").get_json()["sessions"] == 0
    assert anna.get("/api/v1/me").status_code == 401
    assert [row[2] for row in trail(database, "session.end")] == [{"which": "all"}, {"which": theirs}]
    assert root.post("/api/v1/sessions/999/end").status_code == 404


def test_one_sees_and_ends_ones_own_logins_and_nobody_elses(app: Flask, anna: Person, root: Person) -> None:
    elsewhere = Person(app.test_client())
    elsewhere.login("anna")
    own = anna.get("/api/v1/me/sessions").get_json()["sessions"]
    assert [one["user"] for one in own] == ["anna", "anna"]
    other = next(one["id"] for one in own if not one["current"])
    roots = next(o["id"] for o in root.get("/api/v1/sessions").get_json()["sessions"] if o["user"] == "root")
    assert anna.post(f"/account/sessions/{roots}/end").status_code == 404
    assert anna.post(f"/account/sessions/{other}/end").headers["Location"] == "/account#logins"
    assert elsewhere.get("/api/v1/me").status_code == 401
    assert anna.get("/api/v1/me").status_code == 200


def test_a_token_is_shown_once_opens_and_is_revoked(
    app: Flask, root: Person, visitor: Person, database: Database
) -> None:
    answer = root.post("/api/v1/tokens", json={"user": "anna", "name": "night", "days": 1})
    assert answer.status_code == 201
    made = answer.get_json()
    assert made["secret"] not in root.get("/api/v1/tokens").text + root.get("/admin/tokens").text
    bearer = {"Authorization": f"Bearer {made['secret']}"}
    assert visitor.get("/api/v1/me", headers=bearer).get_json()["name"] == "anna"
    [listed] = root.get("/api/v1/tokens").get_json()["tokens"]
    assert (listed["state"], listed["user"], listed["role"]) == ("valid", "anna", "radiologist")
    assert listed["last_used_at"]
    assert root.post(f"/admin/tokens/{listed['id']}/revoke").status_code == 303
    assert visitor.get("/api/v1/me", headers=bearer).status_code == 401
    assert [row[0] for row in trail(database, "token.")] == ["root", "root"]


def test_the_form_makes_a_token_and_says_what_is_wrong(root: Person) -> None:
    page = root.post("/admin/tokens", data={"user": "root", "name": "backup", "role": "radiologist"})
    assert re.findall(r'class="secret"[^>]*>(cxrsr_[^<]+)<', page.text)
    wrong = root.post("/admin/tokens", data={"user": "anna", "name": "x", "role": "admin"})
    assert wrong.status_code == 422
    assert "Anna is no admin" in wrong.text


def test_one_makes_tokens_for_oneself_but_a_token_makes_none(
    anna: Person, root: Person, visitor: Person
) -> None:
    page = anna.post("/account/tokens", data={"name": "mine", "days": "30"})
    [secret] = re.findall(r'class="secret"[^>]*>(cxrsr_[^<]+)<', page.text)
    bearer = {"Authorization": f"Bearer {secret}"}
    assert visitor.get("/api/v1/me", headers=bearer).get_json()["role"] == "radiologist"
    assert visitor.client.post("/api/v1/me/tokens", json={"name": "more"}, headers=bearer).status_code == 403
    assert anna.post("/api/v1/me/tokens", json={"name": "up", "role": "admin"}).status_code == 422
    [token] = anna.get("/api/v1/me/tokens").get_json()["tokens"]
    assert root.post(f"/account/tokens/{token['id']}/revoke").status_code == 404
    assert anna.post(f"/account/tokens/{token['id']}/revoke").status_code == 303
    assert visitor.get("/api/v1/me", headers=bearer).status_code == 401


@pytest.fixture
def busy(database: Database) -> None:
    with database.write() as session:
        for number in range(5):
            audit.record(session, "eve", "job.retry", object_type="job", object_id=number)
        audit.record(session, "eve", "jobs.search", detail={"query": {"patient": "ZZYZX"}})
        audit.record(session, "=cmd()", "login", outcome="failure")


def test_the_trail_is_filtered_page_by_page(root: Person, busy: None) -> None:
    first = root.get("/api/v1/audit?action=job.&actor=eve&limit=3").get_json()
    assert [entry["object_id"] for entry in first["entries"]] == ["4", "3", "2"]
    rest = root.get(f"/api/v1/audit?action=job.&actor=eve&limit=3&cursor={first['next']}").get_json()
    assert [entry["object_id"] for entry in rest["entries"]] == ["1", "0"]
    assert rest["next"] is None
    assert root.get("/api/v1/audit?object_type=job&object_id=3").get_json()["entries"][0]["actor"] == "eve"
    assert root.get("/api/v1/audit?until=2001-01-01").get_json()["entries"] == []
    assert root.get("/api/v1/audit?since=nonsense").status_code == 422


def test_the_page_of_the_trail_keeps_its_filters(root: Person, busy: None) -> None:
    page = root.get("/admin/audit?action=job.&actor=&outcome=success").text
    assert page.count("job.retry</code>") == 5
    assert "format=csv&amp;action=job.&amp;outcome=success" in page
    wrong = root.get("/admin/audit?since=yesterday")
    assert wrong.status_code == 422
    assert "Not acceptable: since." in wrong.text


def test_what_was_searched_for_is_nowhere_in_the_trail_that_is_shown(root: Person, busy: None) -> None:
    for path in ("/admin/audit", "/api/v1/audit", "/api/v1/audit/export", "/api/v1/audit/export?format=json"):
        answer = root.get(path)
        assert "jobs.search" in answer.text
        assert "ZZYZX" not in answer.text


def test_the_trail_is_exported_as_a_table_that_no_spreadsheet_runs(
    root: Person, busy: None, database: Database
) -> None:
    answer = root.get("/api/v1/audit/export?outcome=failure")
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="audit-')
    [row] = csv.DictReader(io.StringIO(answer.text))
    assert (row["actor"], row["action"]) == ("'=cmd()", "login")
    lines = root.get("/api/v1/audit/export?format=json&action=job.retry").text.splitlines()
    assert [json.loads(line)["object_id"] for line in lines] == ["4", "3", "2", "1", "0"]
    assert trail(database, "audit.export")[1] == ("root", None, {"outcome": "failure"})
