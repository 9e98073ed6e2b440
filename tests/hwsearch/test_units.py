"""Units keep numbers short and say what they are."""

import pytest

from hwsearch.units import in_words, name_of, unit_of


@pytest.mark.parametrize(
    ("column", "largest", "expected"),
    [
        ("latency_s", 1.0, (1.0, "s")),
        ("latency_s", 0.999, (1e-3, "ms")),
        ("latency_s", 2e-4, (1e-6, "µs")),
        ("energy_j", 3e-6, (1e-6, "µJ")),
        ("energy_j", 3e-14, (1e-12, "pJ")),
        ("size_bytes", 1000, (1e3, "KB")),
        ("size_bytes", 999, (1.0, "B")),
        ("bops", 4.1e10, (1e9, "GBOPs")),
        ("bops", 0.0, (1.0, "BOPs")),
        ("test_top1", 91.0, (1.0, "%")),
        ("n_test", 5000.0, (1.0, "")),
    ],
)
def test_the_unit_follows_the_largest_value(column, largest, expected):
    assert unit_of(column, largest) == expected


def test_a_point_is_told_in_words():
    point = {"top1": 81.3, "latency_s": 0.001234, "size_bytes": 45_000.0}
    assert in_words(point) == "top-1 81.30 %, latency per image 1.234 ms, storage size 45 KB"


def test_a_column_without_a_name_keeps_its_own():
    assert name_of("weight_bits_mean") == "weight_bits_mean"
