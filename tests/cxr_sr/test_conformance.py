from __future__ import annotations

from cxr_sr.conformance import statement
from pacs_node import codecs, identity, provenance, receiver, statuses


def test_the_statement_names_all_that_is_negotiated_and_nothing_else():
    text = statement()
    contexts = receiver.supported_contexts()
    for context in contexts:
        assert f"`{context.abstract_syntax}`" in text
        for syntax in context.transfer_syntax:
            assert f"| {codecs.CODECS[str(syntax)].name} | `{syntax}` |" in text
    named = {str(syntax) for context in contexts for syntax in context.transfer_syntax}
    for uid in codecs.CODECS.keys() - named:
        assert f"`{uid}`" not in text


def test_the_statement_gives_every_status_that_the_receiver_returns():
    text = statement()
    for row in statuses.TABLE:
        if row.ours:
            assert f"| 0x{row.first:04X} | {row.name} | {row.ours} |" in text


def test_the_statement_says_who_we_are():
    assert identity.IMPLEMENTATION_CLASS_UID in statement()


def test_the_statement_lists_every_code_and_the_image_type_of_results():
    text = statement()
    for _, (value, meaning), scheme in provenance.CODES:
        assert f"| {value} | {scheme} | {meaning} |" in text
    assert "`DERIVED\\SECONDARY\\\\AI_SR`" in text
