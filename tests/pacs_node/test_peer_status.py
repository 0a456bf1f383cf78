"""What is remembered of a destination: its last answer, and since when it answers so."""

from __future__ import annotations

from db.models import PeerStatus
from pacs_node.courier import note_peer
from tests.pacs_node.nodes import make_database, make_settings


def test_since_when_a_destination_is_silent_stays_while_it_is(tmp_path):
    database = make_database(make_settings(tmp_path))

    def noted(reachable: bool) -> PeerStatus:
        note_peer(database, "pacs", reachable, 0.1, "said")
        with database.read() as session:
            return session.get_one(PeerStatus, "pacs")

    first = noted(False)
    second = noted(False)
    back = noted(True)
    assert first.changed_at == first.checked_at == second.changed_at
    assert second.checked_at > first.checked_at
    assert (back.reachable, back.changed_at) == (True, back.checked_at)
    database.close()
