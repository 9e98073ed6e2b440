"""Progress bars on the terminal."""

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

STDERR = Console(stderr=True)


def progress_bar() -> Progress:
    """A bar on stderr with count, elapsed and remaining time; it vanishes when done, and is off outside a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=STDERR,
        transient=True,
        disable=not STDERR.is_terminal,
    )


def track(items: Iterable[T], description: str) -> Iterator[T]:
    """Yield ``items`` with a bar beside them."""
    total = len(items) if isinstance(items, Sized) else None
    with progress_bar() as bar:
        yield from bar.track(items, total=total, description=description)
