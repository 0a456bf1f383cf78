from __future__ import annotations

from pathlib import Path

from flask import Flask, request

from config import Settings
from config.settings import WebSettings
from db import Database
from tests.webui.conftest import Person
from webui import auth
from webui.app import create_app


def test_every_answer_carries_the_headers(visitor: Person, anna: Person) -> None:
    for answer in (
        visitor.get("/healthz"),
        visitor.get("/nothing"),
        anna.get("/api/v1/me"),
        visitor.get("/login"),
    ):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy, "nothing from another host"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "Strict-Transport-Security" not in answer.headers


def test_answers_with_data_are_not_kept_by_caches(anna: Person) -> None:
    assert anna.get("/api/v1/jobs").headers["Cache-Control"] == "no-store"


def _reflecting(settings: Settings, database: Database, *proxies: str) -> Flask:
    web = WebSettings(trusted_proxies=proxies)
    app = create_app(settings.model_copy(update={"web": web}), database)
    view = auth.public(lambda: f"{request.scheme} {request.remote_addr} {request.host}")
    app.add_url_rule("/healthz/reflect", view_func=view, endpoint="reflect")
    return app


FORWARDED = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "node.example"}


def test_the_viewers_decoder_alone_may_compile_webassembly(visitor: Person) -> None:
    decoder = visitor.get("/static/dist/assets/decodeImageFrameWorker-Ab1_-9.js")
    policy = decoder.headers["Content-Security-Policy"].split("; ")
    assert policy == ["default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "connect-src 'self'"]
    for other in (
        "/static/dist/assets/mount-Ab1_-9.js",
        "/static/dist/assets/main-Ab1_-9.js",
        "/static/dist/assets/decodeImageFrameWorker-Ab1/x.js",
        "/jobs/1?/assets/decodeImageFrameWorker-Ab1.js",
    ):
        assert "unsafe" not in visitor.get(other).headers["Content-Security-Policy"], other


def test_forwarding_headers_count_only_from_a_trusted_proxy(settings: Settings, database: Database) -> None:
    client = _reflecting(settings, database, "10.1.0.0/16").test_client()
    trusted = client.get("/healthz/reflect", headers=FORWARDED, environ_base={"REMOTE_ADDR": "10.1.2.3"})
    assert trusted.text == "https 192.0.2.7 node.example"
    assert trusted.headers["Strict-Transport-Security"]
    other = client.get("/healthz/reflect", headers=FORWARDED, environ_base={"REMOTE_ADDR": "10.2.2.3"})
    assert other.text == "http 10.2.2.3 localhost"


def test_of_several_forwarded_addresses_only_the_proxys_own_word_counts(
    settings: Settings, database: Database
) -> None:
    client = _reflecting(settings, database, "10.1.0.0/16").test_client()
    spoofed = {
        "X-Forwarded-For": "10.1.9.9, 127.0.0.1, 192.0.2.7",
        "X-Forwarded-Proto": "http, https",
        "X-Forwarded-Host": "evil.example, node.example",
    }
    for proxy in ("10.1.2.3", "::ffff:10.1.2.3"):
        answer = client.get("/healthz/reflect", headers=spoofed, environ_base={"REMOTE_ADDR": proxy})
        assert answer.text == "https 192.0.2.7 node.example"


def test_links_to_results_name_the_configured_address_whatever_host_a_request_names(
    settings: Settings, database: Database
) -> None:
    web = WebSettings(public_url="https://node.example/sr")
    app = create_app(settings.model_copy(update={"web": web}), database)
    anna = Person(app.test_client())
    anna.login()
    headers = {"Host": "evil.example"}
    for path in ("/", "/queue", "/system"):
        answer = anna.get(path, headers=headers)
        assert "evil.example" not in answer.text + answer.headers.get("Location", ""), path
    document = anna.get("/api/openapi.json", headers=headers)
    assert document.get_json()["servers"] == [{"url": "https://node.example/sr"}]


def test_without_a_proxy_nobodys_forwarding_headers_count(settings: Settings, database: Database) -> None:
    client = _reflecting(settings, database).test_client()
    assert client.get("/healthz/reflect", headers=FORWARDED).text == "http 127.0.0.1 localhost"


def test_the_room_knows_no_dicom_network_and_no_torch() -> None:
    import subprocess
    import sys

    program = (
        "import sys, webui.server, webui.app, webui.api, webui.health\n"
        "bad = {'torch', 'pynetdicom', 'pacs_node', 'enhancer'}\n"
        "bad &= set(sys.modules)\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
