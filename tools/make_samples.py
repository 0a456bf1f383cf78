"""Make the sample radiographs in cxr_sr/samples from the development images.

Two chest radiographs of NIH ChestX-ray14 become CR objects with invented demographics; a third sample is a
real CR object, copied as it is. Run again it writes the same bytes::

    python tools/make_samples.py path/to/shared/data
"""

from __future__ import annotations

import argparse
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

SAMPLES = Path(__file__).resolve().parent.parent / "cxr_sr" / "samples"
REAL_CR = ("dicom/chest_cr_fuji_10bit_mono1_explicit.dcm", "chest_pa_fuji_440.dcm")

#: Of pydicom, so that nothing in a sample looks like a result of this project.
IMPLEMENTATION = UID("1.2.826.0.1.3680043.8.498.1")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One radiograph to wrap: where it is, what it becomes, and the demographics invented for it."""

    source: str
    target: str
    side: int
    bits: int
    identifier: str
    name: str
    birth_date: str
    date: str
    time: str


WRAPPED = (
    Sample(source="cxr/val/nih_512/00000218_000.webp", target="chest_pa_nih_512.dcm", side=512, bits=8,
           identifier="SAMPLE-1", name="Sample^One", birth_date="19610412", date="20260105", time="081500"),
    Sample(source="cxr/val/nih_512/00001021_000.webp", target="chest_pa_nih_256.dcm", side=256, bits=12,
           identifier="SAMPLE-2", name="Sample^Two", birth_date="19780923", date="20260105", time="083000"),
)  # fmt: skip


def uid(*parts: str) -> UID:
    """Return the same UID under the arc 2.25 for the same parts."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, '/'.join(('cxr-sr', 'sample', *parts))).int}")


def pixels(path: Path, side: int, bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read an 8-bit image as unsigned [side, side] of ``bits`` bits, Lanczos-reduced where it is larger."""
    with Image.open(path) as image:
        grey = image.convert("L").convert("F")
    if grey.size != (side, side):
        grey = grey.resize((side, side), Image.Resampling.LANCZOS)
    top = 2**bits - 1
    scaled = np.rint(np.clip(np.asarray(grey, dtype=np.float64) / 255.0, 0.0, 1.0) * top)
    return scaled.astype(np.uint8 if bits <= 8 else np.uint16)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return a code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def wrap(sample: Sample, data: Path) -> FileDataset:
    """Return ``sample`` as a CR object."""
    source = data / sample.source
    stored = pixels(source, sample.side, sample.bits)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = uid(sample.target, "instance")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION
    ds = FileDataset(sample.target, {}, file_meta=meta, preamble=b"\0" * 128)

    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.PatientName, ds.PatientID = sample.name, sample.identifier
    ds.PatientBirthDate, ds.PatientSex = sample.birth_date, "O"
    ds.PatientComments = "Demographics invented for this sample"

    ds.StudyInstanceUID = uid(sample.target, "study")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = sample.date
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = sample.time
    ds.AccessionNumber = sample.identifier
    ds.StudyID, ds.StudyDescription = "1", "Chest"
    ds.ReferringPhysicianName = ""

    ds.SeriesInstanceUID = uid(sample.target, "series")
    ds.SeriesNumber, ds.InstanceNumber = 1, 1
    ds.SeriesDescription = "PA"
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "CR", "CHEST", "PA"
    ds.AnatomicRegionSequence = [code("43799004", "SCT", "Chest")]
    ds.Manufacturer, ds.InstitutionName = "", "NIH Clinical Center"

    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.DerivationDescription = (
        "From the 8-bit release of NIH ChestX-ray14: reduced by Lanczos, once lossy as WebP"
    )
    ds.PatientOrientation = ["L", "F"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated = stored.itemsize * 8
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = sample.bits, sample.bits - 1, 0
    ds.WindowCenter, ds.WindowWidth = 2 ** (sample.bits - 1), 2**sample.bits
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "01"
    ds.LossyImageCompressionRatio = f"{512 * 512 / source.stat().st_size:.1f}"
    little_endian = stored.astype(stored.dtype.newbyteorder("<"))
    ds.add_new("PixelData", "OB" if stored.itemsize == 1 else "OW", little_endian.tobytes())
    return ds


def main() -> None:
    """Write all samples."""
    parser = argparse.ArgumentParser(description="Make the sample radiographs in cxr_sr/samples.")
    parser.add_argument("data", type=Path, help="the folder that holds cxr/ and dicom/")
    data = parser.parse_args().data
    SAMPLES.mkdir(exist_ok=True)
    for sample in WRAPPED:
        wrap(sample, data).save_as(SAMPLES / sample.target, enforce_file_format=True)
    shutil.copyfile(data / REAL_CR[0], SAMPLES / REAL_CR[1])


if __name__ == "__main__":
    main()
