"""What the tests of the viewer share: objects whose shades are known, and looks at the canvases."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect
from pydicom import Dataset
from pydicom.sequence import Sequence

from tests import dicom_variants

READY_MS = 60_000
ENHANCED_SECONDS = 420.0
Grey = npt.NDArray[np.float64]


@dataclass
class Shown:
    """A job and the objects before and after it."""

    job: int = 0
    source: Dataset = field(default_factory=Dataset)
    result: Dataset = field(default_factory=Dataset)


def ramp() -> Dataset:
    """Every shade from black to white, with corners that are told apart."""
    values = np.tile(np.linspace(0, 4095, 128).round().astype("u2"), (96, 1))
    values[30:50, 40:60] = 4095
    values[60:70, 90:100] = 0
    return dicom_variants.cr(values, PatientID="VIEW-1", WindowCenter="2048", WindowWidth="4096")


def inverted() -> Dataset:
    """MONOCHROME1, with two windows."""
    return dicom_variants.cr(
        photometric="MONOCHROME1",
        PatientID="VIEW-2",
        WindowCenter=["2000", "1500"],
        WindowWidth=["3000", "900"],
        WindowCenterWidthExplanation=["NORMAL", "HARD"],
    )


def tabled() -> Dataset:
    """A VOI LUT instead of a window."""
    ds = dicom_variants.cr(PatientID="VIEW-3")
    del ds.WindowCenter, ds.WindowWidth
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 12])
    table.LUTExplanation = "SOFT TISSUE"
    entries = np.rint(4095 * (np.arange(4096) / 4095) ** 2).astype("<u2")
    table.add_new("LUTData", "OW", entries.tobytes())
    ds.VOILUTSequence = Sequence([table])
    return ds


def view(page: Page, one: Shown) -> None:
    """Open the page of a job and wait until its images stand."""
    page.goto(f"/jobs/{one.job}")
    expect(page.locator(".viewer-box[data-ready]")).to_be_visible(timeout=READY_MS)
    page.locator(".viewer-box").focus()
    settled(page)


def settled(page: Page) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate(
        "new Promise(go => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(go, 80))))"
    )


def canvas(page: Page, pane: str) -> Grey:
    """The shades on a pane's canvas: Float64[height, width], 0 to 255."""
    data = page.locator(f'[data-pane="{pane}"] canvas').evaluate("canvas => canvas.toDataURL('image/png')")
    with Image.open(BytesIO(base64.b64decode(data.split(",")[1]))) as picture:
        rgb = np.asarray(picture.convert("RGB"), np.float64)
    assert np.ptp(rgb, axis=2).max() == 0, "grey images stay grey"
    return rgb[:, :, 0]


def magnified(page: Page) -> float:
    """Show single pixels, several screen pixels for each of the result's; returns how many."""
    page.keyboard.press("o")
    page.keyboard.press("n")
    for _ in range(6):
        page.keyboard.press("+")
    settled(page)
    return 1.25**6


def sampled(drawn: Grey, shape: tuple[int, int], size: float) -> tuple[Grey, npt.NDArray[np.bool_]]:
    """The shade at the middle of each pixel of an image in the middle of `drawn`, and which are in sight."""
    places = []
    for count, extent in zip(shape, drawn.shape, strict=True):
        places.append((np.arange(count) + 0.5 - count / 2) * size + extent / 2)
    inside = [(place > 1) & (place < extent - 1) for place, extent in zip(places, drawn.shape, strict=True)]
    rows, columns = (
        np.clip(place, 0, extent - 1).astype(int) for place, extent in zip(places, drawn.shape, strict=True)
    )
    return drawn[np.ix_(rows, columns)], np.outer(*inside)


def expected(ds: Dataset) -> Grey:
    """The shades that the header asks for (PS3.3 C.11.2.1, C.7.6.3.1.2): Float64[rows, columns]."""
    values = ds.pixel_array.astype(np.float64) * float(ds.get("RescaleSlope", 1)) + float(
        ds.get("RescaleIntercept", 0)
    )
    if "WindowCenter" in ds:
        first = [
            ds[word].value if ds[word].VM == 1 else ds[word].value[0]
            for word in ("WindowCenter", "WindowWidth")
        ]
        centre, width = map(float, first)
        shades = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    else:
        shades = np.frombuffer(ds.VOILUTSequence[0].LUTData, "<u2")[values.astype(int)] / 4095
    return 255 * (1 - shades if ds.PhotometricInterpretation == "MONOCHROME1" else shades)


def at(page: Page, pane: str, row: float, column: float, shape: tuple[int, int]) -> tuple[float, float]:
    """The place on the page of a place in an image that fits into its pane."""
    box = page.locator(f'[data-pane="{pane}"]').bounding_box()
    assert box
    scale = min(box["width"] / shape[1], box["height"] / shape[0])
    x = box["x"] + box["width"] / 2 + (column - shape[1] / 2) * scale
    return x, box["y"] + box["height"] / 2 + (row - shape[0] / 2) * scale


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()
    settled(page)


def deposit(page: Page, path: Path, token: str) -> int:
    """Upload a file as the person who is logged in; the job's number."""
    file = FilePayload(name=path.name, mimeType="application/octet-stream", buffer=path.read_bytes())
    answer = page.request.post("/api/v1/jobs", multipart={"file": file}, headers={"X-CSRF-Token": token})
    assert answer.status == 202, answer.text()
    return int(answer.json()["jobs"][0]["id"])
