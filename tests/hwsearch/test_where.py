"""Conditions select rows and never run code."""

import pandas as pd
import pytest

from hwsearch.where import columns_of, select

TABLE = pd.DataFrame(
    {
        "kind": ["uniform", "mixed", "mixed", "mixed"],
        "latency_s": [0.010, 0.012, 0.015, 0.020],
        "energy_j": [4.0, 3.0, -2.0, float("nan")],
        "on_front": [True, True, False, False],
    }
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("latency_s < 0.012", [0]),
        ("latency_s <= 0.012", [0, 1]),
        ("0.010 < latency_s < 0.02", [1, 2]),
        ("0.012 >= latency_s", [0, 1]),
        ("latency_s < 0.012 or latency_s > 0.015", [0, 3]),
        ("latency_s < 0.012 or latency_s > 0.011 and energy_j < 0", [0, 2]),
        ("not (latency_s < 0.012 or latency_s > 0.015)", [1, 2]),
        ("kind == 'mixed' and not on_front", [2, 3]),
        ("on_front", [0, 1]),
        ("energy_j > -3", [0, 1, 2]),
        ("energy_j != 3 and latency_s == 1.2e-2", []),
        ("  energy_j > latency_s", [0, 1]),
    ],
)
def test_conditions_mean_what_python_means(where, expected):
    assert select(TABLE, where).index.tolist() == expected


@pytest.mark.parametrize(
    "where",
    [
        "__import__('os').system('true')",
        "latency_s.max() > 0",
        "latency_s > (lambda: 0)()",
        "latency_s > [0][0]",
        "latency_s in (1, 2)",
        "latency_s is 1",
        "latency_s + 1 > 0",
        "latency_s ** 9 ** 9 > 0",
        "(x := 3) < latency_s",
        "f'{latency_s}' == 'a'",
        "kind == b'mixed'",
        "latency_s > 1j",
        "latency_s > None",
        "[on_front for on_front in kind]",
        "-latency_s < 0",
        "~on_front",
    ],
)
def test_anything_but_a_condition_is_refused(where):
    with pytest.raises(ValueError, match=r"is not allowed; use column names|no column"):
        select(TABLE, where)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("latency < 1", r"^where='latency < 1': no column 'latency'; choose from \['kind', 'latency_s', 'energy_j', "),
        ("latency_s < ", r"^where='latency_s < ' is not a condition \(.*\): use column names, numbers, quoted text, "),
        ("import os", r"is not a condition"),
        ("latency_s < 1; 2", r"is not a condition"),
        ("\0", r"is not a condition"),
        ("", r"is not a condition"),
        ("@latency_s < 1", r"is not a condition"),
        ("(" * 500 + "1" + ")" * 500, r"is not a condition"),
        ("1 + " * 100_000 + "1", r"is not a condition|is not allowed"),
        ("latency_s", r"^where='latency_s' is not a condition: use column names"),
        ("5", r"^where='5' is not a condition"),
        ("latency_s and on_front", r"'latency_s' is neither true nor false; compare it\."),
        ("kind < 5", r"'kind' and '5' cannot be compared; one is text, the other is not\."),
        ("latency_s == 'fast'", r"'latency_s' and ''fast'' cannot be compared"),
    ],
)
def test_broken_conditions_say_what_is_wrong(where, message):
    with pytest.raises(ValueError, match=message):
        select(TABLE, where)


def test_columns_of_a_condition_are_named_once():
    assert columns_of("latency_s < 1 and kind == 'mixed' or latency_s > 2") == ["latency_s", "kind"]
