"""Pictures inside a page: JPEG in as few bytes as will do, and how many bytes there are."""

import base64
import io

import numpy as np
from PIL import Image

QUALITY = 78  # of JPEG, of 95
SIDE = 640  # pixels of the longer side


class Budget:
    """Bytes that may still be spent on pictures."""

    def __init__(self, size: int):
        self.left = size

    def take(self, markup: str) -> bool:
        """Takes the bytes of a piece of the page, if they are there."""
        size = len(markup.encode())
        if size > self.left:
            return False
        self.left -= size
        return True


def encode_picture(pixels: np.ndarray | Image.Image, side: int = SIDE) -> str:
    """Encodes a picture as a data: URL, its longer side at most `side` pixels.

    Args:
        pixels: (H, W, 3) uint8 RGB
        side: larger pictures are shrunk to it
    """
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
