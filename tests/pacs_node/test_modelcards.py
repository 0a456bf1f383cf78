"""What the page of models is told."""

from __future__ import annotations

from config import Rule
from config.settings import EnhancerSettings
from db.exchange import Document
from pacs_node import modelcards
from tests.pacs_node.nodes import make_database, make_settings
from webui.api.modelcards import DOCUMENT, ModelView


def test_shipped_and_configured_models_are_told_with_their_cards(tmp_path):
    settings = make_settings(tmp_path).model_copy(
        update={
            "enhancer": EnhancerSettings(model="srresnet"),
            "rules": (Rule(name="odd", model="/no/such.safetensors"),),
        }
    )
    found = {card["asked"]: card for card in modelcards.cards(settings)}
    assert set(found) == {"srresnet", "srgan", "/no/such.safetensors"}
    assert [name for name, card in found.items() if card["default"]] == ["srresnet"]
    assert found["srgan"]["card"].startswith("# Model card: `srgan`")
    assert found["srgan"]["scales"] == [2, 4]
    assert len(found["srgan"]["digest"]) == 64
    assert "no model file" in found["/no/such.safetensors"]["problem"]


def test_the_page_reads_what_the_worker_writes(tmp_path):
    settings = make_settings(tmp_path)
    database = make_database(settings)
    modelcards.write(settings, database)
    with database.read() as session:
        written = session.get_one(Document, DOCUMENT)
    modelcards.write(settings, database)
    with database.read() as session:
        assert session.get_one(Document, DOCUMENT).written_at == written.written_at, "nothing has changed"
    assert [ModelView.model_validate(one).name for one in written.content["models"]] == ["srgan", "srresnet"]
    database.close()
