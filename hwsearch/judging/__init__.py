"""Judging candidates on the search split: which engine runs them, on how many images, and what is measured."""

from hwsearch.judging.engines import choose_engine
from hwsearch.judging.split_judge import SplitJudge, growing_parts

__all__ = ["SplitJudge", "choose_engine", "growing_parts"]
