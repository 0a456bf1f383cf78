"""What parses bytes or text from outside, each as a function of bytes that must end in one of the ways its
callers know: with a value, or with the error that it promises. Anything else is a fault.

The same table serves Hypothesis (`test_targets.py`, in every run of the tests) and libFuzzer by atheris
(`python -m tests.fuzz NAME`, `make fuzz`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydicom import Dataset
from pynetdicom.dsutils import decode as decode_data_set
from pynetdicom.dsutils import encode
from sqlalchemy import select

from config import ConfigError, load_settings
from config.settings import Rule
from db.objects import ObjectStore
from pacs_node import (
    anatomy,
    codecs,
    codestream,
    commandset,
    commitment,
    decode,
    facts,
    geometry,
    lookup,
    matching,
    normalized,
    outline,
    overlays,
    pictures,
    provenance,
    pull_dimse,
    pull_web,
    reading,
)
from pacs_node import header as prefix
from pacs_node import multipart as answers
from pacs_node.errors import Refused
from pacs_node.examine import parse_header, unnamed
from pacs_node.received import Caller
from tests import dicom_variants as variants
from tests.faults import wire
from tests.pacs_node import bombs
from webui import archive, content, multipart
from webui.dicomweb import frames, header, jsonmodel, keys, media
from webui.errors import ApiProblem

MAX_PIXELS = 1 << 20


@dataclass(frozen=True)
class Target:
    """A parser: `run` raises nothing unless there is a fault. seeds: inputs to begin with."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _file(data: bytes) -> Path:
    """The bytes as a file, the same one each time."""
    path = _folder() / "input"
    path.write_bytes(data)
    return path


@cache
def _folder() -> Path:
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = tempfile.TemporaryDirectory(prefix="cxr-sr-fuzz-", dir=base)
    _kept.append(made)
    return Path(made.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _saved(ds: Dataset, **how: Any) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True, **how)
    return buffer.getvalue()


@cache
def _objects() -> list[bytes]:
    """Small good objects of several kinds, and small bombs."""
    values = variants.chest_values(12, 24, 20)
    made = [
        variants.dx(values, bits=12), variants.cr(values), variants.with_overlay(variants.cr(values)),
        variants.with_shutter(variants.dx(values, bits=12)), variants.with_private_block(variants.cr(values)),
        variants.secondary_capture(variants.chest_values(8, 24, 20)),
    ]  # fmt: skip
    syntaxes = (
        codecs.EXPLICIT_VR_BIG_ENDIAN, codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        codecs.IMPLICIT_VR_LITTLE_ENDIAN,
    )  # fmt: skip
    found = [_saved(ds) for ds in made]
    for uid in syntaxes:
        path = variants.written(variants.encoded(variants.cr(values), uid), _folder() / "seed")
        found.append(path.read_bytes())
    open_sequence = bombs.head(0x0008, 0x1140, b"SQ", 0xFFFFFFFF)
    found.append(bombs.spliced(open_sequence + bombs.ITEM * 3 + bombs.SEQUENCE_END))
    found.append(bombs.spliced(bombs._nested(4)))
    return found


def _command(data: bytes) -> None:
    with contextlib.suppress(commandset.CommandError):
        commandset.parse(data)


def _commands() -> list[bytes]:
    return [
        wire.command(0x0001, sop_class=wire.CR.encode(), sop_instance=b"1.2.3"),
        wire.command(0x0030, data_set=0x0101),
        wire.command(0x8100, more=wire.element(0x0900, b"\0\0")),
        wire.command(0x0130, more=wire.element(0x1008, b"\1\0")),
    ]


def _names(data: bytes) -> None:
    syntaxes = (
        codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN, codecs.EXPLICIT_VR_BIG_ENDIAN,
        codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    )  # fmt: skip
    for uid in syntaxes:
        with contextlib.suppress(prefix.HeaderError):
            prefix.read_names(data, uid)
    with contextlib.suppress(prefix.HeaderError):
        part10 = prefix.read_part10(io.BytesIO(data))
        assert part10.offset >= 132
    with contextlib.suppress(content.NotTaken):
        content.examine(io.BytesIO(data))


def _name_seeds() -> list[bytes]:
    whole = _objects()
    return [*whole, *(data[data.find(b"\x08\x00\x05\x00") :] for data in whole)]


def _stream(data: bytes) -> None:
    found = codestream.stream_header(data)
    assert found is None or isinstance(found.rows, int)


def _streams() -> list[bytes]:
    return [
        bombs._j2k(20, 24),
        bombs._boxed(bombs._j2k(20, 24)),
        bombs._jpeg_of(20, 24),
        bombs._jpeg_ls_of(2, 2),
    ]


def _stow(data: bytes) -> None:
    with contextlib.suppress(multipart.Malformed):
        for part in multipart.parts(io.BytesIO(data), "b", io.BytesIO):
            assert part.media_type == part.media_type.lower()


def _wado(data: bytes) -> None:
    with contextlib.suppress(answers.MultipartError):
        answers.boundary_of(data[:200].decode("latin-1").replace("\n", " ").replace("\r", " "))
    pieces = iter([data[at : at + 7] for at in range(0, len(data), 7)])
    with contextlib.suppress(answers.MultipartError):
        for body in answers.Parts(pieces, b"b"):
            for _ in body:
                pass


def _multiparts() -> list[bytes]:
    return [
        b"--b\r\nContent-Type: application/dicom\r\n\r\nDICM\r\n--b\r\n\r\n\r\n--b--\r\n",
        b"preamble\r\n--b  \r\nA: b\r\n\r\n\r\n--b--",
        b'multipart/related; boundary="b"; type="application/dicom"',
        b"multipart/related; boundary*0=x; boundary*1=%y; charset*=utf-8''%e4",
    ]


def _zip(data: bytes) -> None:
    try:
        for member in archive.members(io.BytesIO(data), io.BytesIO, max_bytes=1 << 20):
            assert member.file is not None or member.refusal is not None
            if member.file is not None:
                assert len(member.file.getvalue()) <= 1 << 20
    except content.NotTaken:
        pass


def _zips() -> list[bytes]:
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as file:
            file.writestr("a/../ü.dcm", b"x" * 500)
            file.writestr("__MACOSX/x", b"")
            file.writestr("b.dcm", bytes(900), compress_type=zipfile.ZIP_DEFLATED)
        made.append(buffer.getvalue())
    return made


def _header(data: bytes) -> None:
    """What the child does before a decoder, and what the worker then asks of the header."""
    with contextlib.suppress(Refused):
        ds, syntax, excess = reading.read(_file(data), max_pixels=MAX_PIXELS)
        encoded, _ = reading.clean_header(ds)
        told = parse_header(encoded, {"TransferSyntaxUID": syntax})
        _ask(told)
        fmt = decode.pixel_format(ds, max_pixels=MAX_PIXELS)
        decode.padding_range(ds, fmt)
        codec = codecs.codec_of(syntax)
        if excess is None and codec is not None and not codec.encapsulated:
            image = decode.decode(ds, syntax, max_pixels=MAX_PIXELS)
            facts.pixel_digest(told, image)
            lookup.shades(told, lookup.modality_values(told, image.values[:4, :4]))
            geometry.shutter_mask(told, image.format.rows, image.format.columns)


def _ask(ds: Dataset) -> None:
    facts.header_facts(ds)
    facts.header_digest(ds)
    unnamed(ds)
    provenance.is_own_result(ds)
    geometry.finest_spacing(ds)
    anatomy.shows_chest(ds)
    anatomy.is_frontal(ds)
    anatomy.is_animal(ds)
    anatomy.is_phantom(ds)
    lookup.modality_falls(ds)
    lookup.voi_falls(ds)
    for group in overlays.planes(ds):
        overlays.bits_of(ds, group)
    for entry in ("PatientName", "00081030", "00290010", "ProcedureCodeSequence", "View", "CallingAddress"):
        matching.mismatch({entry: ("*X?", "", "[a")}, ds, {"CallingAddress": "127.0.0.1"})


def _walk(data: bytes) -> None:
    for deep in (False, True):
        for explicit in (None, True, False):
            with contextlib.suppress(Refused, struct.error):
                source = outline.Stored(io.BytesIO(data))
                outline.walk(source, explicit=explicit, deep=deep, max_elements=2000)


def _picture(data: bytes) -> None:
    path = _file(data)
    if pictures.is_picture(path):
        with contextlib.suppress(Refused):
            pictures.read_picture(path, max_pixels=MAX_PIXELS)


def _pictures() -> list[bytes]:
    return [
        bombs._grey_png(), bombs.png(9, 9, data=bytes(90)), bombs.tiff(4, 4), bombs._jpeg_of(96, 80),
        bombs.tiff(4, 4, (259, 3, 1, 5)), bombs.tiff(4, 4, (274, 3, 1, 6)), bombs.tiff(4, 4, following=8),
    ]  # fmt: skip


def _metadata(data: bytes) -> None:
    """What DICOMweb shows of a stored object."""

    class One:
        """A store of this one object."""

        spool = _folder()

        def open(self, _key: str) -> BinaryIO:
            return io.BytesIO(data)

    with contextlib.suppress(header.Unreadable):
        header.study_of(io.BytesIO(data))
    with contextlib.suppress(header.Unreadable), header.opened(cast(ObjectStore, One()), "a") as found:
        json.dumps(jsonmodel.of_header(found, lambda where: where), allow_nan=False)
        jsonmodel.attribute(found.ds, 0x00100010)
        jsonmodel.binary(found.ds, "00081140/0/00081155")


def _search_answer(data: bytes) -> None:
    """A study as an archive tells it in JSON."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return
    for answer in told if isinstance(told, list) else [told]:
        json.dumps(pull_web._shown(answer, list(pull_web._TAGS)))


def _search_answers() -> list[bytes]:
    model = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B", "Phonetic": "C"}]},
        "00080061": {"vr": "CS", "Value": ["CR", None, 7]},
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00201208": {"vr": "IS", "Value": [1e400]},
    }
    return [json.dumps([model]).encode(), b"[[1,[]],null,{}]", b'{"00100010":[]}']


def _found(data: bytes) -> None:
    """A study as an archive tells it in a data set."""
    for implicit in (True, False):
        try:
            ds = decode_data_set(io.BytesIO(data), implicit, True)
        except Exception:  # the library's own; it ends the search
            continue
        pull_dimse._shown(ds, list(pull_web._TAGS))
        pull_dimse._text(ds, "StudyInstanceUID")


def _founds() -> list[bytes]:
    ds = Dataset()
    ds.PatientName, ds.ModalitiesInStudy, ds.StudyInstanceUID = "A^B", ["CR", "DX"], "1.2"
    ds.NumberOfStudyRelatedInstances, ds.StudyDate = "3", "20260101"
    return [encode(ds, True, True) or b"", encode(ds, False, True) or b""]


def _commitment(data: bytes) -> None:
    """Requests and reports of storage commitment."""
    for syntax in (codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN):
        told = commandset.Command(0x0130, 1, True, commitment.SOP_CLASS, commitment.SOP_INSTANCE)
        request = normalized.Request(Caller("A", "B", "127.0.0.1"), 1, commitment.SOP_CLASS, syntax, told)
        request.incoming.write(data[: normalized.MAX_DATA_BYTES])
        try:
            ds = request.data_set()
        except Exception:  # answered as a data set that cannot be read
            continue
        for read in (commitment.read_action, commitment.read_event):
            with contextlib.suppress(commitment.Unusable):
                read(ds)


def _commitments() -> list[bytes]:
    asked = commitment.action_information("1.2.3", [("1.2", "1.2.4"), ("1.2", "1.2.5")])
    _, told = commitment.event_information("1.2.3", {("1.2", "1.2.4"): None, ("1.2", "1.2.5"): 0x0112})
    return [encode(ds, implicit, True) or b"" for ds in (asked, told) for implicit in (True, False)]


def _config(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        load_settings(_file(data))


def _configs() -> list[bytes]:
    return [
        b"[dicom]\nport = 1\nallow = [{ae_title = 'A', address = '::/0'}]\n[[rules]]\nname = 'a'\n",
        b"[[rules]]\nname = 'a'\n[rules.match]\nModality = ['CR', '*']\n00080060 = ''\n",
        b"[[destinations]]\nname = 'a'\nae_title = 'A'\nhost = 'h'\nport = 104\ntls = true\n",
        b"data_dir = 'x'\n[web]\nhost = '0.0.0.0'\ntrusted_proxies = 1\n[database]\nurl = 'sqlite://'\n",
    ]


def _rule(data: bytes) -> None:
    """A rule's entry and its pattern, and the value that it is tried on, one on each line."""
    entry, pattern, value, *_ = [*data.decode("utf-8", "replace").split("\n", 2), "", ""]
    try:
        rule = Rule(name="a", match={entry: pattern})
    except ValueError:
        return
    ds = Dataset()
    ds.add_new(0x00080060, "CS", value[:200])
    ds.add_new(0x00081030, "LO", value[:200])
    found = matching.mismatch(rule.match, ds, {"CallingAddress": value, "CallingAETitle": value})
    assert found is None or str(found)


def _rules() -> list[bytes]:
    return [
        b"Modality\nC[!R*?]\nCR", b"CallingAddress\n10.0.0.0/8\n::ffff:10.1.1.1%eth0", b"00080060\n\n",
        b"ProcedureCodeSequence\n*\n", b"CallingAETitle\n" + b"*a" * 40 + b"\n" + b"a" * 60,
    ]  # fmt: skip


def _query(data: bytes) -> None:
    """A search's key and value, an Accept header, numbers of frames."""
    name, value, accept, *_ = [*data.decode("utf-8", "replace").split("\n", 2), "", ""]
    with contextlib.suppress(keys.UnknownAttribute, keys.BadValue):
        keyword = keys.canonical(name)
        keys.level_of(keyword)
        key = keys.BY_KEYWORD.get(keyword)
        if key is not None and key.match is not keys.Match.NONE:
            test = keys.condition(key, value)
            if test is not None:
                str(select(test(key.source)).compile())
    for part in media._split(accept):
        media.parse(part)
    with contextlib.suppress(ApiProblem):
        frames.frame_numbers(value)


def _queries() -> list[bytes]:
    return [
        b"PatientName\n*M\xc3\xbcll?r^\n*/*;q=0.5, multipart/related; type=\"application/dicom\"; a=b",
        b"00080020\n20260101-\napplication/dicom+json;q=nan", b"StudyTime\n10:11-1213.5\n",
        b"StudyInstanceUID\n1.2\\1.3,1.4\n", b"SeriesNumber\n+7\n",
        b"RequestAttributesSequence.00400009\n%_/\n", b"ModalitiesInStudy\nCR\\DX*\n",
    ]  # fmt: skip


TARGETS: dict[str, Target] = {
    "command": Target(_command, _commands),
    "names": Target(_names, _name_seeds),
    "outline": Target(_walk, _name_seeds),
    "stream": Target(_stream, _streams),
    "stow": Target(_stow, _multiparts),
    "wado": Target(_wado, _multiparts),
    "zip": Target(_zip, _zips),
    "header": Target(_header, _objects),
    "metadata": Target(_metadata, _objects),
    "picture": Target(_picture, _pictures),
    "json": Target(_search_answer, _search_answers),
    "found": Target(_found, _founds),
    "commitment": Target(_commitment, _commitments),
    "config": Target(_config, _configs),
    "rule": Target(_rule, _rules),
    "query": Target(_query, _queries),
}
