import pandas as pd
import pytest

from hwsearch.study import markdown, render, study_table


@pytest.fixture
def results():
    rows = [
        ("net", 91.7, "requant", "per_tensor", {"W8A32": 91.65, "W4A32": 87.0}),
        ("net", 91.7, "minmax", "per_tensor", {"W8A32": 91.5, "W4A32": 85.125}),
        ("another", 80.0, "requant", "per_tensor", {"W8A32": 79.0, "W4A32": 70.0}),
    ]
    return pd.DataFrame(
        [
            {"model": m, "float": f, "quantizer": q, "granularity": g, "precision": p, "top1": top1}
            for m, f, q, g, found in rows
            for p, top1 in found.items()
        ]
    )


def test_rows_and_columns_keep_their_order(results):
    table = study_table(results)
    assert list(table.columns) == ["W8A32", "W4A32"]
    assert [key[0::2] for key in table.index] == [("net", "requant"), ("net", "minmax"), ("another", "requant")]
    assert table.loc["net", 91.7, "minmax", "per_tensor"].tolist() == [91.5, 85.125]


def test_markdown_is_a_table(results):
    assert markdown(study_table(results)).splitlines() == [
        "| model | float | quantizer | granularity | W8A32 | W4A32 |",
        "| --- | ---: | --- | --- | ---: | ---: |",
        "| net | 91.70 | requant | per_tensor | 91.65 | 87.00 |",
        "| net | 91.70 | minmax | per_tensor | 91.50 | 85.12 |",
        "| another | 80.00 | requant | per_tensor | 79.00 | 70.00 |",
    ]


def test_the_terminal_separates_networks(results):
    shown = render(study_table(results), "Top-1")
    assert shown.row_count == 3
    assert [row.end_section for row in shown.rows] == [False, True, False]
