"""Entropy-coded sizes against Huffman codes worked by hand and the entropy."""

from math import ceil, log2

import pytest
import torch

from hwsearch.quantize import QuantizedWeight
from hwsearch.quantize.storage import huffman_bytes


def entry(counts: list[int]) -> QuantizedWeight:
    codes = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(torch.int8)
    return QuantizedWeight(codes.view(1, -1), torch.ones(1))


@pytest.mark.parametrize(
    ("counts", "bits"),
    [
        ([45, 13, 12, 16, 9, 5], 224),  # Cormen et al., Introduction to Algorithms, section 16.3, in thousands
        ([8, 8, 8, 8], 64),
        ([1, 1, 2, 4], 14),
        ([100], 0),
    ],
)
def test_bits_are_those_of_a_huffman_code_and_a_byte_per_level(counts, bits):
    assert huffman_bytes(entry(counts)) == ceil(bits / 8) + len(counts)


def test_random_codes_take_their_entropy_and_at_most_a_bit_more():
    counts = [3, 40, 500, 2000, 1500, 60, 7]
    total = sum(counts)
    entropy = sum(-count * log2(count / total) for count in counts) / 8
    assert entropy <= huffman_bytes(entry(counts)) - len(counts) <= entropy + total / 8 + 1
