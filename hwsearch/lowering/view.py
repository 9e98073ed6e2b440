"""What a reader sees of stored tensors after slicing, padding and concatenation, before anything is copied."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cost_models.tvm.image import Image, Ring
from hwsearch.lowering.integer_network import Part


@dataclass(frozen=True)
class View:
    """An image whose channels are parts of stored tensors; channels that no part covers are 0.

    Attributes:
        height: Pixels.
        width: Pixels.
        channels: Channels.
        parts: Where they lie.
    """

    height: int
    width: int
    channels: int
    parts: tuple[Part, ...]

    @classmethod
    def whole(cls, tensor: str, image: Image) -> "View":
        """All of one tensor."""
        part = Part(tensor, 0, 0, (1, 1), 0, image.channels, 0)
        return cls(image.height, image.width, image.channels, (part,))

    @classmethod
    def concatenated(cls, views: list["View"]) -> "View":
        """Views one after the other along the channels."""
        parts: list[Part] = []
        channels = 0
        for view in views:
            parts += view.moved(channels).parts
            channels += view.channels
        return replace(views[0], channels=channels, parts=tuple(parts))

    def moved(self, channels: int) -> "View":
        """With zeros before the first channel."""
        parts = (replace(part, target_channel=part.target_channel + channels) for part in self.parts)
        return replace(self, channels=self.channels + channels, parts=tuple(parts))

    def cropped(self, rows: range, columns: range) -> "View":
        """Some rows and columns; those outside read what surrounds the stored tensors."""
        parts = (
            replace(
                part,
                row=part.row + rows.start * part.stride[0],
                column=part.column + columns.start * part.stride[1],
                stride=(part.stride[0] * rows.step, part.stride[1] * columns.step),
            )
            for part in self.parts
        )
        return replace(self, height=len(rows), width=len(columns), parts=tuple(parts))

    def with_channels(self, channels: range) -> "View":
        """Some consecutive channels."""
        parts = []
        for part in self.parts:
            first = max(part.target_channel, channels.start)
            last = min(part.target_channel + part.channels, channels.stop)
            if first < last:
                skipped = first - part.target_channel
                parts.append(
                    replace(
                        part,
                        channel=part.channel + skipped,
                        channels=last - first,
                        target_channel=first - channels.start,
                    )
                )
        return replace(self, channels=len(channels), parts=tuple(parts))

    def is_ringed(self, sides: Ring, images: Mapping[str, Image]) -> bool:
        """Whether the next pixels on some sides, those not 0, lie in the rings of the stored tensors."""
        for part in self.parts:
            image, (down, across) = images[part.source], part.stride
            bottom, right = part.row + self.height * down, part.column + self.width * across
            inside = (part.row >= down, part.column >= across, bottom < image.height, right < image.width)
            if any(hidden and side for hidden, side in zip(inside, sides, strict=True)):
                return False
        return True

    def is_whole(self, images: Mapping[str, Image]) -> bool:
        """Whether it is all of one stored tensor."""
        return len(self.parts) == 1 and self == View.whole(self.parts[0].source, images[self.parts[0].source])

    def is_window(self, images: Mapping[str, Image]) -> bool:
        """Whether it is adjacent pixels, with all channels, of one stored tensor."""
        if len(self.parts) != 1:
            return False
        (part,) = self.parts
        channels = images[part.source].channels
        return (part.stride, part.channels, self.channels) == ((1, 1), channels, channels)

    def rings(self, images: Mapping[str, Image]) -> dict[str, Ring]:
        """Ring that each stored tensor needs for the view to be read."""
        rings: dict[str, Ring] = {}
        for part in self.parts:
            image = images[part.source]
            bottom = part.row + (self.height - 1) * part.stride[0] + 1 - image.height
            right = part.column + (self.width - 1) * part.stride[1] + 1 - image.width
            ring = (max(-part.row, 0), max(-part.column, 0), max(bottom, 0), max(right, 0))
            rings[part.source] = widest(ring, rings.get(part.source, (0, 0, 0, 0)))
        return rings


def widest(a: Ring, b: Ring) -> Ring:
    """The smallest ring that holds both."""
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
