"""Other processes of one search on this machine."""

import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from signal import SIG_IGN, SIGINT, signal
from typing import Any

import torch

from hwsearch.progress import STDERR

log = logging.getLogger("hwsearch")


@contextmanager
def other_workers(count: int, work: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run ``work(*arguments)`` in ``count`` other processes meanwhile; all share the threads that torch has here.

    They end with the block, or after their candidate if this process dies.
    """
    threads = torch.get_num_threads()
    share = max(1, threads // (count + 1))
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's locks without its threads
    processes = [context.Process(target=_work, args=(share, work, *arguments), daemon=True) for _ in range(count)]
    torch.set_num_threads(share)
    try:
        with _ignoring_interrupts():  # inherited: this process ends the others, from their first moment on
            for process in processes:
                process.start()
        yield
        died = sum(process.exitcode not in (None, 0) for process in processes)
        if died:
            log.warning("%d of %d workers died; the others judged what they had begun.", died, count + 1)
    finally:
        torch.set_num_threads(threads)
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    before = signal(SIGINT, SIG_IGN)
    try:
        yield
    finally:
        signal(SIGINT, before)


def _work(threads: int, work: Callable[..., None], *arguments: Any) -> None:
    STDERR.quiet = True  # the first process alone shows progress
    torch.set_num_threads(threads)
    work(*arguments)


def end_with_parent() -> None:
    """End a worker process whose parent has died."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        sys.exit(1)
