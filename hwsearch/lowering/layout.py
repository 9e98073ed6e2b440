"""Which dimension of a torch tensor lies along which axis of a stored image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from cost_models.tvm.image import Image


@dataclass(frozen=True)
class Layout:
    """An image (height H, width W, channels C) as a torch tensor sees it.

    Attributes:
        axes: Letters of the axes that each dimension after the batch runs over, the slowest first: ``("C", "H", "W")``
            for an image, ``("CHW",)`` for a flattened one, ``("H", "C")`` for tokens. Axes of size 1 may be left out.
        sizes: (H, W, C).
    """

    axes: tuple[str, ...]
    sizes: tuple[int, int, int]

    @classmethod
    def of_input(cls, shape: Sequence[int]) -> "Layout | None":
        """Of a network's input ``[C, H, W]``, ``[T, C]`` or ``[C]``."""
        known = {3: ("C", "H", "W"), 2: ("H", "C"), 1: ("C",)}
        axes = known.get(len(shape))
        return cls(axes, (1, 1, 1)).resized(shape) if axes else None

    @property
    def image(self) -> Image:
        """Layout in memory, without a ring."""
        return Image(*self.sizes)

    def size(self, letters: str) -> int:
        """Values along some axes."""
        return prod(self.sizes["HWC".index(letter)] for letter in letters)

    def position(self, letter: str) -> int:
        """Index of the dimension that runs along one axis, the batch counted; -1 where none does."""
        return self.axes.index(letter) + 1 if letter in self.axes else -1

    def resized(self, shape: Sequence[int]) -> "Layout":
        """With the sizes of another tensor of the same axes; those of merged axes stay."""
        sizes = list(self.sizes)
        for letters, size in zip(self.axes, shape, strict=True):
            if len(letters) == 1:
                sizes["HWC".index(letters)] = size
        return replace(self, sizes=(sizes[0], sizes[1], sizes[2]))

    def reshaped(self, shape: Sequence[int]) -> "Layout | None":
        """Dimensions merged, or of size 1 dropped and added; None where a dimension would have to be split."""
        left = [(letters, self.size(letters)) for letters in self.axes]
        axes = []
        for size in shape:
            letters, found = "", 1
            while left and (found < size or (size == 1 and not letters and left[0][1] == 1)):
                taken, count = left.pop(0)
                letters, found = letters + taken, found * count
            if found != size:
                return None
            axes.append(letters)
        if any(count > 1 for _, count in left):
            return None
        return replace(self, axes=tuple(axes))

    def permuted(self, order: Sequence[int]) -> "Layout | None":
        """Dimensions in another order, the batch counted; None where the batch moves."""
        if order[0] != 0:
            return None
        return replace(self, axes=tuple(self.axes[i - 1] for i in order[1:]))

    def matches(self, other: "Layout") -> bool:
        """Whether dimensions of both run along the same axes, those of size 1 aside."""
        pairs = list(zip(self._significant, other._significant, strict=False))
        return len(self.axes) == len(other.axes) and all(a == b or not a or not b for a, b in pairs)

    @property
    def is_image(self) -> bool:
        """Whether it is ``[C, H, W]``."""
        return self.matches(Layout(("C", "H", "W"), self.sizes))

    @property
    def _significant(self) -> tuple[str, ...]:
        return tuple("".join(letter for letter in letters if self.size(letter) > 1) for letters in self.axes)
