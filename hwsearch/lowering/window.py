"""The windows that a convolution or a pooling moves over its input."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """The input pixels that one output pixel sees.

    Attributes:
        kernel: (height, width).
        stride: (vertical, horizontal).
        padding: (top, left): the first output pixel's window begins at the input pixel (-top, -left). Negative where
            pixels are skipped.
        dilation: (vertical, horizontal).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def reach(self, out_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns that the windows of an output cover, those of the padding included."""
        rows, columns = (
            (size - 1) * stride + (kernel - 1) * dilation + 1
            for size, stride, kernel, dilation in zip(out_size, self.stride, self.kernel, self.dilation, strict=True)
        )
        return rows, columns
