"""How an activation tensor lies in memory."""

from dataclasses import dataclass

ALIGNED_CHANNELS = 4
"""A stored pixel's channels are rounded up to this: a dot product reads four bytes at once."""

Ring = tuple[int, int, int, int]
"""Extra pixels around an image: (top, left, bottom, right)."""


@dataclass(frozen=True)
class Image:
    """u8 tensor in NHWC order inside a ring of pixels that hold its zero point.

    The ring is the padding of whoever reads the tensor; whoever writes the tensor writes the ring too.

    Attributes:
        height: Pixels, without the ring.
        width: Pixels, without the ring.
        channels: Channels that mean something; the stored ones are rounded up to a multiple of 4, and what the
            surplus holds is not defined.
        ring: (top, left, bottom, right).
        batch: Images.
    """

    height: int
    width: int
    channels: int
    ring: Ring = (0, 0, 0, 0)
    batch: int = 1

    @property
    def stored_channels(self) -> int:
        """Channels per pixel in memory."""
        return -(-self.channels // ALIGNED_CHANNELS) * ALIGNED_CHANNELS

    @property
    def stored(self) -> tuple[int, int, int, int]:
        """Shape in memory: ``[N, top + H + bottom, left + W + right, C]``."""
        top, left, bottom, right = self.ring
        return self.batch, top + self.height + bottom, left + self.width + right, self.stored_channels

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        batch, height, width, channels = self.stored
        return batch * height * width * channels
