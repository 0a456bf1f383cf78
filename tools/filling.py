"""Fills an empty database with many jobs, as years of use would leave it: the database makes the rows itself.

For measurements and for tests of query plans; no object lies in the store for any of them.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

from db import Database

FAMILIES = (
    "Abbott", "Ahmed", "Alvarez", "Andersen", "Baker", "Bauer", "Becker", "Bennett", "Bianchi", "Brandt",
    "Carlsen", "Castro", "Chen", "Costa", "Cruz", "Dahl", "Diaz", "Dubois", "Eriksen", "Fischer",
    "Fontana", "Garcia", "Gruber", "Haas", "Hansen", "Hoffmann", "Huber", "Ivanov", "Jansen", "Jensen",
    "Kaya", "Keller", "Khan", "Kim", "Kovacs", "Kruger", "Lang", "Larsen", "Lehmann", "Lindgren", "Lopez",
    "Maier", "Marino", "Martin", "Meyer", "Moreau", "Moser", "Mueller", "Nagy", "Nguyen", "Nielsen",
    "Novak", "Okafor", "Olsen", "Ortiz", "Park", "Peters", "Petrov", "Popescu", "Ramos", "Ricci", "Rossi",
    "Roth", "Ruiz", "Sato", "Schmid", "Schneider", "Schulz", "Silva", "Smith", "Sommer", "Steiner",
    "Suzuki", "Tanaka", "Thomsen", "Torres", "Varga", "Vogel", "Wagner", "Walker", "Weber", "Weiss",
    "Werner", "Winkler", "Wolf", "Yilmaz", "Young", "Zhang", "Ziegler", "Zimmermann",
)  # fmt: skip
GIVEN = (
    "Ada", "Anna", "Ben", "Carla", "Daniel", "Elena", "Emil", "Eva", "Felix", "Greta", "Hanna", "Ida",
    "Ivan", "Jana", "Jonas", "Julia", "Karl", "Klara", "Lars", "Lea", "Leon", "Lina", "Luca", "Maria",
    "Marta", "Max", "Mia", "Nina", "Noah", "Nora", "Olga", "Oskar", "Paul", "Petra", "Rosa", "Sara",
    "Simon", "Sofia", "Tom", "Vera",
)  # fmt: skip

_EVENTS = (("NULL", "queued", 0), ("queued", "running", 5), ("running", None, 9))
_STATES = """CASE WHEN i % 1000 < 15 THEN 'failed' WHEN i % 1000 < 20 THEN 'held'
    WHEN i % 1000 < 25 THEN 'delivering' WHEN i % 1000 < 28 THEN 'cancelled'
    WHEN i % 1000 < 30 THEN 'retracted' WHEN i % 1000 < 70 THEN 'skipped'
    WHEN i > :number * 19 / 20 AND i % 10 < 9 THEN 'queued' ELSE 'done' END"""
"""What became of job number `i`: of a thousand 15 failed; most of the newest twentieth wait."""

_TABLES = ("patient", "study", "series", "source", "result", "job", "delivery", "job_event", "model_version")


def fill(
    database: Database, number: int, *, destination: str = "pacs", days: float = 365.0, due: bool = True
) -> None:
    """Make so many jobs, one a source, of half as many patients; the newest is of this moment.

    due: whether what waits could be done now; its objects do not exist. Nothing may be in the tables yet.
    """
    sql = _Sql(database.sqlite, number, destination, 86400 * days / max(1, number), due)
    with database.write() as session:
        sql.fill(session)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not database.sqlite:
            connection.execute(text("VACUUM ANALYZE"))  # as its own daemon does in time


class _Sql:
    def __init__(self, sqlite: bool, number: int, destination: str, step: float, due: bool) -> None:
        self.wait = 0.0 if due else 86400 * 3650.0
        self.sqlite, self.number, self.step = sqlite, number, step
        self.values = {"number": number, "destination": destination}

    def fill(self, session: Session) -> None:
        """Run every statement, parents before children."""
        for statement in (*self._images(), *self._work()):
            used = {name: value for name, value in self.values.items() if f":{name}" in statement}
            session.execute(text(statement), used)
        if not self.sqlite:
            for table in _TABLES:
                last = f"(SELECT max(id) FROM {table})"
                session.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last})"))

    def _at(self, seconds: float = 0) -> str:
        """The time of job `i`, and so many seconds more."""
        later = f"((i - :number) * {self.step} + {seconds})"
        if self.sqlite:
            return f"strftime('%Y-%m-%d %H:%M:%S', 'now', {later} || ' seconds') || '.000000'"
        return f"now() + make_interval(secs => {later})"

    def _json(self, value: str) -> str:
        return f"'{value}'" if self.sqlite else f"CAST('{value}' AS jsonb)"

    def _insert(self, table: str, columns: dict[str, str], number: str = ":number", rest: str = "") -> str:
        """One row for each `i` from 1 to `number`; each column is an expression of `i`."""
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number})"
        rows = f"SELECT {', '.join(columns.values())} FROM n {rest}"
        if self.sqlite:
            return f"INSERT INTO {table} ({', '.join(columns)}) {numbers} {rows}"
        return f"{numbers} INSERT INTO {table} ({', '.join(columns)}) {rows}"

    def _images(self) -> list[str]:
        day = "strftime('%Y%m%d', {0})" if self.sqlite else "to_char({0}, 'YYYYMMDD')"
        half = "((i + 1) / 2)"
        year = f"CAST(1930 + {half} % 80 AS VARCHAR)"
        return [
            self._insert(
                "patient",
                {
                    "id": "i",
                    "patient_id": "'P' || (100000 + i)",
                    "issuer": "''",
                    "name": f"{_pick(FAMILIES, 'i')} || '^' || {_pick(GIVEN, 'i / 7')}",
                    "birth_date": f"{year.replace(half, 'i')} || '0214'",
                    "sex": "CASE WHEN i % 2 = 0 THEN 'F' ELSE 'M' END",
                },
                "(:number + 1) / 2",
            ),
            self._words(),
            self._insert(
                "study",
                {
                    "id": "i",
                    "patient_fk": half,
                    "study_instance_uid": "'1.2.826.7.' || i",
                    "accession_number": "'A' || (500000 + i)",
                    "study_id": "''",
                    "study_date": day.format(self._at()),
                    "study_time": "'101500'",
                    "description": "'Chest PA'",
                    "referring_physician": "''",
                },
            ),
            self._insert(
                "series",
                {
                    "id": "i",
                    "study_fk": "i",
                    "series_instance_uid": "'1.2.826.8.' || i",
                    "modality": "CASE WHEN i % 3 = 0 THEN 'CR' ELSE 'DX' END",
                    "series_number": "1",
                    "body_part": "'CHEST'",
                    **dict.fromkeys(("description", "performed_date", "performed_time"), "''"),
                    **dict.fromkeys(("scheduled_step_id", "requested_procedure_id"), "''"),
                },
            ),
            self._insert(
                "source",
                {
                    "id": "i",
                    "identity": "'fill-' || i",
                    "sha256": "'fill-' || i",
                    "size_bytes": "8000000 + i",
                    "object_key": "'sources/fill/' || i || '.dcm'",
                    "media_type": "'application/dicom'",
                    "sop_class_uid": "'1.2.840.10008.5.1.4.1.1.1.1'",
                    "sop_instance_uid": "'1.2.826.9.' || i",
                    "transfer_syntax_uid": "'1.2.840.10008.1.2.1'",
                    "origin_kind": "CASE WHEN i % 40 = 0 THEN 'upload' ELSE 'dimse' END",
                    "origin_ae_title": "CASE WHEN i % 40 = 0 THEN NULL ELSE 'ROOM_' || (i % 7) END",
                    "received_at": self._at(),
                    "times_received": "1",
                    "last_received_at": self._at(),
                    "examined_at": self._at(5),
                    "relation": "'original'",
                    "series_fk": "i",
                    "rows": "2500",
                    "columns": "2048",
                    "bits_allocated": "16",
                    "bits_stored": "12",
                    "photometric": "'MONOCHROME2'",
                    "view_position": "'PA'",
                    "pixel_digest": "'fill-' || i",
                    "header_digest": "'fill-' || i",
                },
            ),
        ]

    def _words(self) -> str:
        place = "instr(name, '^')" if self.sqlite else "strpos(name, '^')"
        family, given = f"lower(substr(name, 1, {place} - 1))", f"lower(substr(name, {place} + 1))"
        both = f"SELECT id, {family} FROM patient UNION SELECT id, {given} FROM patient"
        return f"INSERT INTO patient_word (patient_fk, word) {both}"

    def _work(self) -> list[str]:
        state = f"({_STATES})"
        made = f"{state} IN ('held', 'delivering', 'done', 'retracted')"
        sent = f"WHERE {state} IN ('delivering', 'done', 'retracted')"
        worked = "CASE WHEN {0} = 'queued' THEN NULL ELSE {1} END"
        ended = f"CASE WHEN {state} IN ('queued', 'held', 'delivering') THEN NULL ELSE {self._at(9)} END"
        model = "INSERT INTO model_version (id, name, version, digest, first_used_at) VALUES "
        return [
            f"{model} (1, 'srgan', '1', 'a', CURRENT_TIMESTAMP)",
            f"{model} (2, 'srresnet', '1', 'b', CURRENT_TIMESTAMP)",
            self._insert(
                "result",
                {
                    "id": "i",
                    "object_key": "'results/fill/' || i || '.dcm'",
                    "sha256": "'fill'",
                    "size_bytes": "32000000",
                    "sop_class_uid": "'1.2.840.10008.5.1.4.1.1.1.1'",
                    "sop_instance_uid": "'2.25.1' || i",
                    "series_instance_uid": "'2.25.2' || i",
                    "series_description": "'Enhanced'",
                    "rows": "5000",
                    "columns": "4096",
                    "figures": self._json('{"seconds"\\: 12.5}'),
                    "created_at": self._at(9),
                },
                rest=f"WHERE {made}",
            ),
            self._insert(
                "job",
                {
                    "id": "i",
                    "source_id": "i",
                    "state": state,
                    "reason_code": f"CASE WHEN {state} = 'failed' THEN 'decode' END",
                    "reason": f"CASE WHEN {state} = 'failed' THEN 'The decoder gave up.' END",
                    "priority": "CASE WHEN i % 50 = 0 THEN 0 WHEN i % 7 = 0 THEN 20 ELSE 10 END",
                    "purpose": "CASE WHEN i % 40 = 0 THEN 'manual' ELSE 'clinical' END",
                    "origin_kind": "CASE WHEN i % 40 = 0 THEN 'upload' ELSE 'dimse' END",
                    "requested": self._json("{}"),
                    **dict.fromkeys(("created_at", "updated_at"), self._at()),
                    "not_before": self._at(self.wait),
                    "started_at": worked.format(state, self._at(5)),
                    "finished_at": ended,
                    "attempts": f"CASE WHEN {state} = 'queued' THEN 0 ELSE 1 END",
                    "progress": f"CASE WHEN {made} THEN 1.0 ELSE 0.0 END",
                    "cancel_requested": "false",
                    "lease_token": "1",
                    "rule": worked.format(
                        state, "CASE WHEN i % 500 = 1 THEN 'portable' ELSE 'frontal chest' END"
                    ),
                    "scale": worked.format(state, "2"),
                    "model_version_id": worked.format(state, "CASE WHEN i % 10 = 0 THEN 2 ELSE 1 END"),
                    "release": f"CASE WHEN {state} = 'held' THEN 'review' ELSE 'auto' END",
                    "result_id": f"CASE WHEN {made} THEN i END",
                },
            ),
            self._insert(
                "delivery",
                {
                    "id": "i",
                    "job_id": "i",
                    "what": "'result'",
                    "destination_name": "CASE WHEN i % 300 = 2 THEN 'teaching' ELSE :destination END",
                    "destination": self._json("{}"),
                    "state": f"CASE WHEN {state} = 'delivering' THEN 'waiting' ELSE 'stored' END",
                    "priority": "10",
                    "attempts": "1",
                    "not_before": self._at(9 + self.wait),
                    "life_seconds": "604800",
                    "expires_at": self._at(604800 * 60 + self.wait),
                    **dict.fromkeys(("commitment", "ask_first", "perhaps_there"), "false"),
                    "lease_token": "1",
                    **dict.fromkeys(("created_at", "updated_at"), self._at(9)),
                    "stored_at": f"CASE WHEN {state} <> 'delivering' THEN {self._at(11)} END",
                },
                rest=sent,
            ),
            *(self._event(state, *event) for event in _EVENTS),
        ]

    def _event(self, state: str, before: str, after: str | None, seconds: int) -> str:
        """One transition of each job that has come so far."""
        columns = {
            "job_id": "i",
            "at": self._at(seconds),
            "kind": "'state'",
            "before": before if before == "NULL" else f"'{before}'",
            "after": state if after is None else f"'{after}'",
            "actor": "'fill'",
        }
        rest = "" if before == "NULL" else f"WHERE {state} <> 'queued'"
        return self._insert("job_event", columns, rest=rest)


def _pick(words: tuple[str, ...], number: str) -> str:
    """The word of that number, round and round."""
    cases = " ".join(f"WHEN {place} THEN '{word}'" for place, word in enumerate(words))
    return f"(CASE ({number}) % {len(words)} {cases} END)"
