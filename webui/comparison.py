"""Before and after in one picture: two halves of one size on black, a caption over each. No patient data."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

GAP = 4
CAPTION = 40
NARROWEST = 420
"""Pixels that a caption needs."""
_INK, _PAPER = 235, 0


def framed(before: Image.Image, after: Image.Image, left: str, right: str) -> Image.Image:
    """Two grey pictures of one size side by side, with a caption over each.

    Captions in ASCII: the font knows little more. Raises ValueError for pictures of two sizes.
    """
    if before.size != after.size:
        raise ValueError(f"halves of one size are expected, got {before.size} and {after.size}")
    wide, high = max(before.width, NARROWEST), before.height
    picture = Image.new("L", (2 * wide + GAP, high + CAPTION), _PAPER)
    draw = ImageDraw.Draw(picture)
    for half, caption, at in ((before, left, 0), (after, right, wide + GAP)):
        picture.paste(half, (at + (wide - half.width) // 2, CAPTION))
        draw.text((at + 8, 8), caption, fill=_INK, font=_font(draw, caption, wide - 16))
    return picture


def _font(draw: ImageDraw.ImageDraw, caption: str, room: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest font in which a caption has room."""
    for size in (20, 17, 15, 13, 11, 9):
        font = ImageFont.load_default(size=size)
        if draw.textlength(caption, font=font) <= room:
            break
    return font


def region(picture: Image.Image, box: tuple[int, int, int, int], of: tuple[int, int]) -> Image.Image:
    """A part of a picture that counts in a larger or smaller image.

    box: left, top, right and lower edge in pixels of an image of size `of` (columns, rows). The answer has as
    many pixels as the box, enlarged by bicubic or averaged where the picture has others.
    """
    across, down = picture.width / of[0], picture.height / of[1]
    part = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    wanted = (box[2] - box[0], box[3] - box[1])
    if across >= 1 and down >= 1:
        return picture.resize(wanted, Image.Resampling.BOX, box=part)
    return picture.resize(wanted, Image.Resampling.BICUBIC, box=part)


def fitted(picture: Image.Image, side: int) -> Image.Image:
    """The picture so that its long side has `side` pixels at most: averaged down, or each pixel repeated."""
    long_side = max(picture.size)
    if long_side > side:
        scale = side / long_side
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return picture.resize(size, Image.Resampling.BOX)
    times = side // long_side
    if times < 2:
        return picture
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
