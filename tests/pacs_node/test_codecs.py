"""One table says which transfer syntaxes can be read; asking it loads no decoder."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydicom.uid import UID

from pacs_node import codecs


def test_everything_that_radiography_sends_is_decodable_with_the_locked_decoders():
    assert set(codecs.decodable()) == set(codecs.CODECS)
    assert len(codecs.CODECS) == 16


@pytest.mark.parametrize("uid", codecs.CODECS)
def test_the_table_names_real_transfer_syntaxes(uid):
    known = UID(uid)

    assert known.is_transfer_syntax
    assert known.is_encapsulated == codecs.CODECS[uid].encapsulated


def test_a_syntax_without_an_installed_decoder_is_not_offered(monkeypatch):
    monkeypatch.setattr(codecs, "_is_installed", lambda name: name not in ("gdcm", "imagecodecs"))

    assert codecs.JPEG_LOSSLESS not in codecs.decodable()
    assert codecs.JPEG_LS_LOSSLESS in codecs.decodable()
    assert codecs.codec_of(codecs.JPEG_EXTENDED) is None


def test_asking_the_table_loads_no_decoder():
    script = (
        "import sys; from pacs_node import codecs; codecs.decodable();"
        "print([m for m in ('numpy', 'gdcm', 'imagecodecs', 'jpeg_ls', 'openjpeg', 'pydicom', 'torch')"
        " if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
