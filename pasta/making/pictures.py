"""A video as pictures in a chat message, the way that servers take it.

The standard library writes PNG and no JPEG: a frame is some ten times as many bytes, and exact.

Shapes: F frames, H, W pixels.
"""

import base64
import hashlib
import struct
import zlib
from dataclasses import dataclass

MAX_PIXELS = 602112  # of a frame, unless told: Qwen2.5-VL's own bound for videos


@dataclass(frozen=True)
class Pictures:
    """A video as a server gets it: F PNG files and their seconds."""

    files: tuple[bytes, ...]
    seconds: tuple[float, ...]

    def content(self):
        """The parts of a chat message that show it: a second, its picture, the next second, ..."""
        parts = []
        for file, second in zip(self.files, self.seconds, strict=True):
            url = "data:image/png;base64," + base64.b64encode(file).decode()
            parts.append({"type": "text", "text": f"{second:.1f} s"})
            parts.append({"type": "image_url", "image_url": {"url": url}})
        return parts

    def digest(self):
        """sha256 hex of all of it."""
        digest = hashlib.sha256(str(self.seconds).encode())
        for file in self.files:
            digest.update(file)
        return digest.hexdigest()


def fit_within(max_pixels, n_frames, height, width):
    """The (height, width) in the same ratio with at most `max_pixels`; 0 leaves them."""
    scale = min(1, (max_pixels / (height * width)) ** 0.5) if max_pixels else 1
    return max(1, int(height * scale)), max(1, int(width * scale))


def png(frame):
    """An (H, W, 3) uint8 frame as a PNG file (RFC 2083), bytes."""
    height, width, _ = frame.shape
    rows = frame.copy()
    rows[1:] -= frame[:-1]  # filter 2, "up": the difference from the row above, modulo 256
    data = b"".join(b"\2" + row.tobytes() for row in rows)

    def chunk(tag, content):
        crc = zlib.crc32(tag + content)
        return struct.pack(">I", len(content)) + tag + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 3)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
