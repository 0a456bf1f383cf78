"""Is this node fit to run? Each check does what the service would do, and says in one line what it found."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_sr.rulebook import rule_problems
from cxr_sr.unbuilt import asked_for

if TYPE_CHECKING:
    from config import Settings
    from config.network import Destination, Remote

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found; `message` says what to do where `ok` is False or `warn` True."""

    name: str
    ok: bool
    message: str
    seconds: float = 0.0
    warn: bool = False


class Unfit(Exception):
    """A check did not pass; the message says why and what to do."""


class Caution(Exception):
    """A check passed for now; the message says what is to be done before it does not."""


def examine(config: Path | None) -> Iterator[Check]:
    """Run every check, one after the other; without readable settings there is only the first."""
    from config import ConfigError, load_settings

    try:
        settings = load_settings(config)
    except ConfigError as error:
        yield Check("configuration", False, " ".join(str(error).split()))
        return
    missing = [*asked_for(settings), *rule_problems(settings)]
    yield Check("configuration", not missing, "; ".join(missing) or f"read; data in {settings.data_dir}")
    for name, check in checks(settings):
        began, warn = time.monotonic(), False
        try:
            ok, message = True, check(settings)
        except Caution as caution:
            ok, message, warn = True, str(caution), True
        except Exception as error:  # noqa: BLE001 - whatever is wrong is what the doctor is to report
            from cxr_sr.cli import explain

            ok, message = False, explain(error)
        yield Check(name, ok, message, round(time.monotonic() - began, 3), warn)


def checks(settings: Settings) -> list[tuple[str, Callable[[Settings], str]]]:
    """Names and functions of all checks but that of the configuration itself."""
    dicom = settings.dicom
    doors = [] if dicom.tls and dicom.tls.only else [("dicom port", dicom.host, dicom.port)]
    doors += [("tls port", dicom.host, dicom.tls.port)] if dicom.tls else []
    found: list[tuple[str, Callable[[Settings], str]]] = [
        ("storage", check_storage),
        ("database", check_database),
        ("device", check_device),
        ("model", check_model),
        *[(name, partial(check_port, role="receiver", host=host, port=port)) for name, host, port in doors],
        ("web port", lambda s: check_port(s, "web", s.web.host, s.web.port)),
    ]
    found += [("tls", check_tls), ("certificates", check_certificates)]
    found += [(f"destination {d.name}", partial(check_echo, destination=d)) for d in settings.destinations]
    found += [
        (f"commitment {d.name}", partial(check_commitment, destination=d))
        for d in settings.destinations
        if d.storage_commitment and d.kind == "dimse"
    ]
    found += [(f"archive {a.name}", partial(check_echo, destination=a)) for a in settings.archives]
    if settings.audit.messages != "none":
        found.append(("audit", check_audit))
    if settings.alerts.urls:
        found.append(("alerts", check_alerts))
    if settings.web.oidc is not None:
        found.append(("openid connect", check_oidc))
    if settings.web.ldap is not None:
        found.append(("directory", check_directory))
    if not settings.destinations:
        found.append(("destinations", lambda _: "none configured: results stay here until there is one"))
    return found


def check_storage(settings: Settings) -> str:
    """Put an object away durably, read it back, remove it; look at the room that is left."""
    from db.objects import store_of

    store = store_of(settings)
    file = store.spool / "doctor.part"
    file.write_bytes(b"cxr-sr doctor")
    try:
        stored = store.put(file, "doctor")
    finally:
        file.unlink(missing_ok=True)
    try:
        if store.digest(stored.key) != stored.sha256:
            raise Unfit("what was written is not what is read back; do not trust this disk")
    finally:
        store.delete(stored.key)
    room = store.room()
    if room.free_bytes is None:
        return "written and read back"
    free, kept = f"{room.free_bytes // MIB} MiB", f"the reserve of {room.reserve_bytes // MIB} MiB"
    if not room.accepts:
        raise Unfit(f"{free} are free, less than {kept}; new images are refused until there is more")
    if not room.has(2.0):
        raise Caution(f"{free} are free; below {kept} new images are refused")
    return f"written and read back; {free} free"


def check_audit(settings: Settings) -> str:
    """Open the file of audit messages, or reach their repository, without a message."""
    from pacs_node.audit.sinks import SinkError, open_sink

    sink = open_sink(settings)
    assert sink is not None
    try:
        sink.send([])
    except SinkError as error:
        raise Unfit(f"{error}; messages wait in the database until then") from error
    if settings.audit.messages == "file":
        return "its file can be written"
    return f"{settings.audit.host}:{settings.audit.port} takes messages"


def check_database(settings: Settings) -> str:
    """Reach the database, compare its schema with the code's, and let SQLite look for damage."""
    from sqlalchemy import text

    from db import Database, adrift, queue, schema

    if settings.database_url.startswith("sqlite:///"):
        path = Path(settings.database_url.removeprefix("sqlite:///"))
        if not path.exists():
            raise Unfit(f"there is none at {path} yet; `cxr-sr serve` or `cxr-sr db upgrade` makes it")
    database = Database(settings.database_url)
    try:
        schema.check(database)
        with database.read() as session:
            if database.sqlite and (found := session.scalar(text("PRAGMA quick_check(1)"))) != "ok":
                raise Unfit(f"the file is damaged ({found}); restore a backup with `cxr-sr db restore`")
            waiting = queue.waiting(session)
            if adrift.restored(session) is not None:
                raise Caution(
                    "it was restored; `cxr-sr db adopt` takes in the images that came after the copy"
                )
        return f"{database.engine.dialect.name}, schema up to date, {waiting} jobs waiting"
    finally:
        database.close()


def check_device(settings: Settings) -> str:
    """Whether the configured device is there, and what will be used."""
    from enhancer.device import place

    return f"{settings.enhancer.device}: {place(settings.enhancer.device).label}"


def check_model(settings: Settings) -> str:
    """Load the configured model on the configured device and enlarge a small image with it."""
    import numpy as np

    import enhancer

    model = enhancer.load(settings.enhancer.model, device=settings.enhancer.device)
    info = model.info
    ramp = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    began = time.monotonic()
    for scale in info.scales:
        sr = model.enhance(ramp, scale=scale)
        if sr.shape != (32 * scale, 32 * scale):
            raise Unfit(f"{info.name} returns {sr.shape} for x{scale}; the model file is not what it says")
    seconds = time.monotonic() - began
    scales = " and ".join(f"x{scale}" for scale in info.scales)
    return f"{info.name} {info.version} ({info.digest[:12]}) does {scales} on {info.device}, {seconds:.2f} s"


def check_port(settings: Settings, role: str, host: str, port: int) -> str:
    """Whether the role could listen there, or does so already."""
    where = f"{host}:{port}"
    if port == 0:
        return "a free one will be taken"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if _alive_here(settings, role):
                return f"{where}, in use by our running {role}"
            raise Unfit(f"{where}: {error.strerror}; end that program or choose another port") from None
    return f"{where} is free"


def _alive_here(settings: Settings, role: str) -> bool:
    from db import Database, presence

    database = Database(settings.database_url)
    try:
        with database.read() as session:
            here = socket.gethostname()
            return any(i.role == role and i.host == here for i in presence.alive(session))
    finally:
        database.close()


def check_tls(settings: Settings) -> str:
    """Whether the listener's certificate can be used as it lies there now."""
    from pacs_node.tls import PROFILES, TlsError, server_credentials

    tls = settings.dicom.tls
    if tls is None:
        return "no TLS listener is configured"
    try:
        server_credentials(tls)
    except TlsError as error:
        raise Unfit(f"{error}; a receiver that is running keeps what it has until it is restarted") from None
    callers = "callers show a certificate" if tls.ca else "callers show none"
    return f"{PROFILES[tls.profile].section}, {callers}"


def check_certificates(settings: Settings) -> str:
    """Whether a configured certificate has expired or will soon."""
    from db.types import utcnow
    from pacs_node.certificates import certificates

    now, found = utcnow(), certificates(settings)
    troubled = [(one, trouble) for one in found if (trouble := one.trouble(now))]
    said = "; ".join(f"{', '.join(one.keys)} ({one.path}) {trouble}" for one, trouble in troubled)
    if any(one.until is None or one.until <= now for one, _ in troubled):
        raise Unfit(said)
    if troubled:
        raise Caution(said)
    if not found:
        return "none configured"
    first = min(found, key=lambda one: str(one.until))
    return f"{len(found)}, the first to expire is {first.keys[0]} on {first.until:%Y-%m-%d}"


def check_alerts(settings: Settings) -> str:
    """Who is told of alerts. Nobody is told anything now."""
    from cxr_sr.alerting import called

    names = [called(number, url) for number, url in enumerate(settings.alerts.urls, start=1)]
    return f"told to {', '.join(names)}; `cxr-sr alerts test` sends them a message"


def check_oidc(settings: Settings) -> str:
    """Whether the provider that people may sign in by answers as one."""
    from webui.oidc import Provider, ProviderDown

    assert settings.web.oidc is not None
    try:
        said = Provider(settings.web.oidc).check()
    except ProviderDown as error:
        raise Unfit(f"{error}; accounts with a password here can log in all the same") from None
    if not settings.web.public_url:
        raise Caution(f"{said}; set web.public_url: the provider must know the address that it sends back to")
    return f"{said}; it must know {settings.web.public_url.rstrip('/')}/login/oidc/back"


def check_directory(settings: Settings) -> str:
    """Whether the directory lets our account look people up."""
    from webui.directory import Directory, DirectoryDown

    assert settings.web.ldap is not None
    try:
        return Directory(settings.web.ldap).check()
    except DirectoryDown as error:
        raise Unfit(f"{error}; accounts with a password here can log in all the same") from None


def check_echo(settings: Settings, *, destination: Remote) -> str:
    """C-ECHO a destination or an archive; by DICOMweb, search for one study."""
    from pacs_node.echo import echo

    answer = echo(destination, settings.dicom)
    if not answer.ok:
        raise Unfit(answer.message)
    if destination.kind == "dicomweb":
        return f"{answer.message} in {answer.seconds:.2f} s"
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    how = " over TLS" if destination.tls else ""
    return f"{where} answers C-ECHO{how} in {answer.seconds:.2f} s"


def check_commitment(settings: Settings, *, destination: Destination) -> str:
    """Whether a destination offers storage commitment, and would get through to us with its answer."""
    from pacs_node.commitment_scu import offers

    answer = offers(destination, settings.dicom)
    if not answer.ok:
        raise Unfit(answer.message)
    dicom, turned_away = settings.dicom, "it offers storage commitment; an answer of its own is turned away, "
    if dicom.allow and not any(peer.ae_title == destination.ae_title for peer in dicom.allow):
        raise Caution(f"{turned_away}because dicom.allow does not list {destination.ae_title}")
    if destination.calling_ae_title not in (None, dicom.ae_title, *dicom.ae_titles):
        raise Caution(f"{turned_away}because dicom.ae_titles does not list {destination.calling_ae_title}")
    return answer.message
