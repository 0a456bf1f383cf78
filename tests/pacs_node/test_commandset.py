from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_node.commandset import C_STORE_RQ, Command, CommandError, parse
from tests.pacs_node.nodes import CR, command


def test_a_store_request_is_read():
    encoded = command(CR, b"1.2.3", message_id=9)
    assert parse(encoded) == Command(C_STORE_RQ, 9, True, CR, "1.2.3")


def test_a_request_without_a_data_set_says_so():
    assert parse(command(CR, b"1.2.3", data_set=0x0101)).has_data_set is False


def test_the_words_of_the_peer_are_kept_as_they_are():
    assert parse(command(CR, b"../../etc/passwd")).sop_instance_uid == "../../etc/passwd"
    assert parse(command(CR, b"")).sop_instance_uid == ""


@given(st.binary(max_size=300))
def test_any_bytes_give_a_command_or_a_command_error(data):
    try:
        parse(data)
    except CommandError:
        pass


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_cut_off_command_is_refused(cut):
    with pytest.raises(CommandError):
        parse(command(CR, b"1.2.3")[:-cut])
