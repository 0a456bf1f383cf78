from __future__ import annotations

import pytest
from pydantic import ValidationError

from config import Destination

PACS = {"name": "pacs", "ae_title": "PACS", "host": "192.0.2.1", "port": 2762, "tls": True}


def test_files_of_a_remote_must_be_there_when_it_is_configured_and_not_when_it_is_remembered(tmp_path):
    """A certificate that is being replaced is missing for a moment: no reason to give a delivery up."""
    given = PACS | {"tls_ca": str(tmp_path / "ca.pem")}
    with pytest.raises(ValidationError, match="expected a file that exists"):
        Destination(**given)
    (tmp_path / "ca.pem").touch()
    kept = Destination(**given).model_dump(mode="json")
    (tmp_path / "ca.pem").unlink()
    assert Destination.stored(kept).tls_ca == tmp_path / "ca.pem"


def test_what_is_remembered_must_make_sense_all_the_same():
    with pytest.raises(ValidationError, match="expected host and port"):
        Destination.stored({"name": "pacs", "ae_title": "PACS"})
