"""The images where a model helps least, as a picture: source, result, truth, side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from enhancer.data import Float32

KEPT = 10
CAPTION = 20
GAP = 4


@dataclass(order=True)
class _Case:
    gain: float
    caption: str = field(compare=False)
    pixels: npt.NDArray[np.uint8] = field(compare=False)


class Worst:
    """Keeps the ten images of lowest PSNR over bicubic, as they come."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self.cases: list[_Case] = []

    def see(self, name: str, gain: float, lr: Float32, result: Float32, truth: Float32) -> None:
        """One image; the source is shown with its pixels as blocks."""
        if len(self.cases) == self._kept and gain >= self.cases[-1].gain:
            return
        scale = truth.shape[0] // lr.shape[0]
        blocks = lr.repeat(scale, axis=0).repeat(scale, axis=1)
        white = np.ones((truth.shape[0], GAP), np.float32)
        pixels = np.rint(np.clip(np.hstack([blocks, white, result, white, truth]), 0, 1) * 255)
        caption = f"{name}: {gain:+.2f} dB over bicubic; source, result, truth"
        self.cases = sorted([*self.cases, _Case(gain, caption, pixels.astype(np.uint8))])[: self._kept]

    def picture(self) -> Image.Image:
        """One under another, the worst first."""
        width = max((case.pixels.shape[1] for case in self.cases), default=1)
        height = sum(case.pixels.shape[0] + CAPTION for case in self.cases)
        picture = Image.new("L", (width, max(height, 1)), 255)
        draw = ImageDraw.Draw(picture)
        font = ImageFont.load_default(size=12)
        top = 0
        for case in self.cases:
            draw.text((4, top + 3), case.caption, fill=0, font=font)
            picture.paste(Image.fromarray(case.pixels), (0, top + CAPTION))
            top += case.pixels.shape[0] + CAPTION
        return picture
