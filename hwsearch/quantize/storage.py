"""What quantized weights take once their codes are entropy-coded."""

import heapq

import torch

from hwsearch.quantize.grid import QuantizedWeight


def huffman_bytes(weight: QuantizedWeight) -> int:
    """Bytes of a layer's codes in a Huffman code of their own, with a byte per level for the lengths of its words.

    Every merge of Huffman's algorithm makes the words of all codes below it one bit longer, so that the bits in all are
    the sum of the merged counts.

    Reference: Han et al. 2016, "Deep Compression", arXiv:1510.00149, section 4.
    """
    counts = torch.unique(weight.codes, return_counts=True)[1].tolist()
    levels, bits = len(counts), 0
    heapq.heapify(counts)
    while len(counts) > 1:
        merged = heapq.heappop(counts) + heapq.heappop(counts)
        bits += merged
        heapq.heappush(counts, merged)
    return -(-bits // 8) + levels
