"""Lowering of a quantized network to integer operations, and their plain numpy execution."""

from hwsearch.lowering.integer_network import IntegerNetwork
from hwsearch.lowering.lower import lower
from hwsearch.lowering.reference import input_codes, run

__all__ = ["IntegerNetwork", "input_codes", "lower", "run"]
