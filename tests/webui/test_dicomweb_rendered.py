from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID

from db import Database
from db.objects import ObjectStore
from pacs_node import codecs, preview
from tests import dicom_variants as variants
from tests.webui.cabinet import Cabinet, parts, path_of
from tests.webui.conftest import Person
from webui.dicomweb import picture, rendered
from webui.dicomweb.picture import Pixels, Viewport, Window

VALUES = variants.chest_values(12, 48, 40)


@pytest.fixture
def cabinet(database: Database, store: ObjectStore) -> Cabinet:
    return Cabinet(database, store)


def shown(answer: Any, media: str = "image/png") -> np.ndarray[Any, np.dtype[np.uint8]]:
    assert (answer.status_code, answer.mimetype) == (200, media), answer.text
    with Image.open(io.BytesIO(answer.data)) as found:
        assert f"image/{(found.format or '').lower()}" == media
        return np.asarray(found.convert("L"))


def ask(
    person: Person, ds: Dataset, query: str = "", accept: str = "image/png", what: str = "rendered"
) -> Any:
    return person.get(f"{path_of(ds)}/{what}{query}", headers={"Accept": accept})


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("linear", lambda x: (x - 1999.5) / 2999 + 0.5),
        ("linear-exact", lambda x: (x - 2000) / 3000 + 0.5),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-4 * (x - 2000) / 3000))),
    ],
)
def test_a_window_is_applied_as_the_standard_says(
    anna: Person, cabinet: Cabinet, function: str, expected: Any
) -> None:
    ds = variants.cr(VALUES, RescaleSlope="1", RescaleIntercept="0", RescaleType="US")
    cabinet.source(ds)
    wanted = np.rint(np.clip(expected(VALUES.astype(float)), 0, 1) * 255)
    np.testing.assert_array_equal(shown(ask(anna, ds, f"?window=2000,3000,{function}")), wanted)


def test_without_a_window_the_picture_is_that_of_the_preview(anna: Person, cabinet: Cabinet) -> None:
    """Native pixels of every kind look as the worker's own preview does."""
    rescaled: dict[str, Any] = {"RescaleSlope": "-2", "RescaleIntercept": "100", "RescaleType": "US"}
    for ds in (
        variants.cr(VALUES),
        variants.cr(VALUES, photometric="MONOCHROME1"),
        variants.cr(VALUES, photometric="MONOCHROME1", PixelPaddingValue=int(VALUES[3, 3])),
        variants.cr(VALUES, WindowCenter="-3996", WindowWidth="3000", **rescaled),
        variants.cr(VALUES, WindowCenter="1500", WindowWidth="900", VOILUTFunction="LINEAR_EXACT"),
        variants.encoded(variants.cr(VALUES), codecs.EXPLICIT_VR_BIG_ENDIAN),
        variants.encoded(variants.cr(VALUES), codecs.IMPLICIT_VR_LITTLE_ENDIAN),
        variants.cr(variants.chest_values(8, 47, 39), bits=8),
    ):
        cabinet.source(ds)
        padding = (int(ds.PixelPaddingValue),) * 2 if "PixelPaddingValue" in ds else None
        expected = preview.windowed(ds, variants.stored_values(ds), padding)
        assert np.abs(shown(ask(anna, ds)).astype(int) - expected).max() <= 1


def test_monochrome1_is_inverted_behind_the_window_and_not_before(anna: Person, cabinet: Cabinet) -> None:
    """monai-deploy-app-sdk#282, cornerstone3D#2215: the window counts in stored values."""
    plain, inverted = variants.cr(VALUES), variants.cr(VALUES, photometric="MONOCHROME1")
    for ds in (plain, inverted):
        cabinet.source(ds)
    window = "?window=1200,700,linear"
    np.testing.assert_array_equal(shown(ask(anna, inverted, window)), 255 - shown(ask(anna, plain, window)))


def test_signed_pixels_and_their_padding_are_understood(anna: Person, cabinet: Cabinet) -> None:
    values = variants.chest_values(12, 48, 40, signed=True)
    ds = variants.cr(values, WindowCenter="0", WindowWidth="4096")
    ds.add_new("PixelPaddingValue", "SS", int(values[0, 0]))
    cabinet.source(ds)
    expected = preview.windowed(ds, values, (int(values[0, 0]),) * 2)
    assert np.abs(shown(ask(anna, ds)).astype(int) - expected).max() <= 1


def test_an_image_without_a_window_is_stretched_over_its_own_range(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(VALUES)
    del ds.WindowCenter, ds.WindowWidth
    cabinet.source(ds)
    found = shown(ask(anna, ds))
    assert (found.min(), found.max()) == (0, 255)
    assert np.abs(found.astype(int) - preview.windowed(ds, VALUES)).max() <= 2


def test_a_table_of_values_of_interest_is_followed(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(VALUES)
    del ds.WindowCenter, ds.WindowWidth
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "US", [(4095 - n) * 16 for n in range(4096)])
    ds.VOILUTSequence = [table]
    cabinet.source(ds)
    expected = np.rint((4095 - VALUES.astype(float)) / 4095 * 255)
    assert np.abs(shown(ask(anna, ds)) - expected).max() <= 1


def test_a_region_is_cut_mirrored_and_fitted(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(VALUES)
    cabinet.source(ds)
    whole = shown(ask(anna, ds))
    cut = shown(ask(anna, ds, "?viewport=20,24,10,12,20,24"))
    np.testing.assert_array_equal(cut, whole[12:36, 10:30])
    mirrored = shown(ask(anna, ds, "?viewport=20,24,10,12,-20,-24"))
    np.testing.assert_array_equal(mirrored, cut[::-1, ::-1])
    assert shown(ask(anna, ds, "?viewport=20,20")).shape == (20, 17)
    assert shown(ask(anna, ds, "?viewport=80,96")).shape == (96, 80)
    np.testing.assert_array_equal(shown(ask(anna, ds, "?viewport=30,36,10,12,,")), whole[12:, 10:])


def test_compressed_pixels_are_shown_by_their_preview_and_said_to_be(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.encoded(variants.cr(VALUES), codecs.JPEG_LS_LOSSLESS)
    cabinet.source(ds)
    answer = ask(anna, ds)
    np.testing.assert_array_equal(shown(answer), preview.windowed(variants.cr(VALUES), VALUES))
    assert "preview" in answer.headers["Warning"]
    refused = ask(anna, ds, "?window=2000,3000,linear")
    assert (refused.status_code, refused.mimetype) == (406, "application/problem+json")


def test_pictures_are_jpeg_png_or_gif_and_nothing_else(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(VALUES)
    cabinet.source(ds)
    for media in ("image/jpeg", "image/png", "image/gif"):
        assert shown(ask(anna, ds, accept=media), media).shape == (48, 40)
        assert shown(anna.get(f"{path_of(ds)}/rendered?accept={media}"), media).shape == (48, 40)
    for accept in ("*/*", "image/*", "text/html, image/*;q=0.8"):
        assert ask(anna, ds, accept=accept).mimetype == "image/jpeg"
    assert ask(anna, ds, accept="image/webp").status_code == 406
    small, large = (len(ask(anna, ds, f"?quality={q}", "image/jpeg").data) for q in (10, 95))
    assert small < large
    assert ask(anna, ds, what="frames/1/rendered").status_code == 200
    assert ask(anna, ds, what="frames/2/rendered").status_code == 404


def test_what_cannot_be_drawn_is_refused_and_what_is_not_done_is_said(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(VALUES)
    cabinet.source(ds)
    for query in (
        "viewport=0,10", "viewport=10", "viewport=ten,10", "viewport=99999,10", "viewport=10,10,50,0,5,5",
        "viewport=10,10,-1,0,5,5", "window=1", "window=a,b,linear", "window=1,0,linear", "window=1,1,cubic",
        "window=nan,1,linear", "quality=0", "quality=101", "quality=good", "nonsense=1",
    ):  # fmt: skip
        answer = ask(anna, ds, f"?{query}")
        assert (answer.status_code, answer.mimetype) == (400, "application/problem+json"), query
    assert "annotation" in ask(anna, ds, "?annotation=patient").headers["Warning"]


def test_studies_and_series_are_rendered_together_or_by_one(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(VALUES)
    cabinet.source(ds)
    cabinet.result(ds)
    study = f"/dicomweb/studies/{ds.StudyInstanceUID}"
    several = parts(anna.get(f"{study}/rendered", headers={"Accept": 'multipart/related; type="image/png"'}))
    sizes = {Image.open(io.BytesIO(data)).size for kind, data in several if kind == "image/png"}
    assert sizes == {(40, 48), (80, 96)}
    for address in (study, path_of(ds).rpartition("/instances")[0]):
        answer = anna.get(f"{address}/rendered", headers={"Accept": "image/png"})
        assert shown(answer).shape == (48, 40), "the acquired image stands for all"
        assert max(shown(anna.get(f"{address}/thumbnail?accept=image/png&viewport=24,24")).shape) == 24


def test_thumbnails_come_from_the_preview(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.encoded(variants.cr(variants.chest_values(12, 400, 300)), codecs.JPEG_LS_LOSSLESS)
    cabinet.source(ds)
    for what in ("thumbnail", "frames/1/thumbnail"):
        found = shown(ask(anna, ds, accept="image/jpeg", what=what), "image/jpeg")
        assert found.shape[0] == rendered.THUMBNAIL_SIDE


def test_a_large_picture_is_read_in_pieces() -> None:
    """Beside a byte a pixel no copy of the image is held."""
    ds = variants.cr(np.zeros((8, 8), np.uint16))
    ds.Rows, ds.Columns = 3000, 1001
    row = np.arange(1001, dtype="<u2").tobytes()
    pieces = [(row * 3000)[at : at + 999_999] for at in range(0, len(row) * 3000, 999_999)]
    found = picture.render(Pixels.of(ds), lambda: iter(pieces), Window(500, 1001))
    assert found.shape == (3000, 1001)
    assert (found == found[0]).all()
    assert (np.diff(found[0].astype(int)) >= 0).all()


def test_a_picture_that_waits_too_long_for_its_turn_is_put_off(
    anna: Person, cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = variants.cr(VALUES)
    cabinet.source(ds)
    monkeypatch.setattr(rendered, "PATIENCE_SECONDS", 0.01)
    for _ in range(rendered.PICTURES_AT_ONCE):
        assert rendered._turns.acquire(timeout=5)
    try:
        answer = ask(anna, ds)
        assert (answer.status_code, answer.get_json()["type"]) == (503, "urn:cxr-sr:problem:busy")
    finally:
        rendered._turns.release(rendered.PICTURES_AT_ONCE)
    assert ask(anna, ds).status_code == 200


def test_a_deflated_image_is_drawn_as_well(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(VALUES)
    ds.file_meta.TransferSyntaxUID = UID(codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    cabinet.source(ds)
    np.testing.assert_array_equal(shown(ask(anna, ds)), preview.windowed(variants.cr(VALUES), VALUES))


def test_a_viewport_larger_than_the_image_enlarges_it() -> None:
    found = picture.fit(Image.new("L", (10, 20)), Viewport(100, 100), (10, 20))
    assert found.size == (50, 100)
