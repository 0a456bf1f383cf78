from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.faults.node import Node, RecordingArchive
from tests.faults.sizes import LONG


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("faults") and not LONG:
            item.add_marker(pytest.mark.skip(reason="takes minutes: make faults"))


@pytest.fixture
def recorder() -> Iterator[RecordingArchive]:
    archive = RecordingArchive()
    yield archive
    archive.close()


@pytest.fixture
def node(tmp_path, recorder) -> Iterator[Node]:
    """A node that delivers to the recorder; not started yet."""
    made = Node(Path(tmp_path) / "node", destination_port=recorder.port)
    yield made
    made.close()


@pytest.fixture(scope="session")
def small_image(samples_dir) -> Callable[[int], Dataset]:
    """Return a function that cuts the n-th of some thousand chest images of 48x48 pixels from a sample, each
    with UIDs of its own.
    """
    whole = dcmread(samples_dir / "chest_pa_nih_256.dcm")
    pixels = whole.pixel_array

    def cut(number: int) -> Dataset:
        shift, place = divmod(number, 144)
        top, left = place // 12 * 16 + shift, place % 12 * 16 + shift
        part = pixels[top : top + 48, left : left + 48]
        ds = dcmread(samples_dir / "chest_pa_nih_256.dcm")
        ds.set_pixel_data(part, "MONOCHROME2", whole.BitsStored, generate_instance_uid=False)
        ds.SOPInstanceUID = generate_uid(entropy_srcs=["small image", str(number)])
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return ds

    return cut
