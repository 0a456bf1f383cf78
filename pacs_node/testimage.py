"""A picture that nobody can take for a patient's, to try whether a destination takes what we send."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from config import Destination
from pacs_node import header
from pacs_node.carrier import Carrier, Parcel, PeerError, Undeliverable
from pacs_node.secondary import PictureContext, secondary_capture

NAME, PATIENT_ID = "TEST^TEST", "TEST"
SIDE = 512
_LINES = ("TEST IMAGE", "no patient", "made by cxr-sr")


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a test image. status: of the destination, DIMSE in hexadecimal, HTTP in decimal; None
    where it gave none. seconds: for all of it, the association too. message: for people."""

    ok: bool
    status: str | None
    seconds: float
    message: str
    sop_instance_uid: str
    reached: bool
    """Whether the destination answered at all."""


def picture(made: datetime) -> npt.NDArray[np.uint8]:
    """UInt8[512, 512]: a wedge of 16 grey levels and the words that say what it is."""
    levels = np.repeat(np.linspace(16, 240, 16).astype(np.uint8), SIDE // 16)
    image = Image.fromarray(np.tile(levels, (SIDE, 1)))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 160, SIDE, 352), fill=0)
    for number, line in enumerate((*_LINES, f"{made:%Y-%m-%d %H:%M:%S}")):
        font = ImageFont.load_default(size=52 if number == 0 else 28)
        draw.text((SIDE / 2, 200 + 44 * number), line, fill=255, anchor="mm", font=font)
    return np.asarray(image)


def test_image(installation: uuid.UUID, made: datetime) -> Dataset:
    """A Secondary Capture object with patient's name and ID TEST, in a study of its own.

    It says that it is a quality control image, so that nobody enhances it, us included.
    """
    said = {
        "PatientName": NAME,
        "PatientID": PATIENT_ID,
        "StudyID": "TEST",
        "StudyDescription": "TEST",
        "SeriesDescription": "Test image, no patient",
        "Modality": "OT",
    }
    digest = hashlib.sha256(uuid.uuid4().bytes).hexdigest()  # each has UIDs of its own
    ds, _ = secondary_capture(picture(made), PictureContext(installation, digest, made, said))
    ds.QualityControlImage = "YES"
    ds.BurnedInAnnotation = "NO"
    ds.ImageComments = "Test image: shows no patient."
    del ds.BodyPartExamined
    return ds


test_image.__test__ = False  # type: ignore[attr-defined]  # its name is no test's


def send(destination: Destination, carrier: Carrier, installation: uuid.UUID) -> Sent:
    """Send one test image now. Never raises for what the peer or the network does."""
    ds = test_image(installation, datetime.now().astimezone())
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    part10 = header.read_part10(stream)
    stream.seek(0)
    began = time.monotonic()

    def sent(ok: bool, status: str | None, message: str, reached: bool = True) -> Sent:
        return Sent(ok, status, time.monotonic() - began, message, part10.sop_instance_uid, reached)

    try:
        receipt = carrier.carry(Parcel(destination, part10, stream, ours=True))
    except Undeliverable as error:
        return sent(False, None, str(error))
    except PeerError as error:
        return sent(False, None, str(error), reached=False)
    finally:
        carrier.close()
    code = f"{receipt.code:04X}" if destination.kind == "dimse" else str(receipt.code)
    return sent(receipt.verdict.arrived, code, receipt.text)
