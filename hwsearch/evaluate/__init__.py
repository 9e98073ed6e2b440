"""Judging configurations: fake quantization and accuracy."""

from hwsearch.evaluate.accuracy import Accuracy, accuracy
from hwsearch.evaluate.bit_config import check_config, read_precisions
from hwsearch.evaluate.engine import Engine
from hwsearch.evaluate.fake_quantization import FakeQuantNetwork

__all__ = ["Accuracy", "Engine", "FakeQuantNetwork", "accuracy", "check_config", "read_precisions"]
