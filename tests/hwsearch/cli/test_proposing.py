"""What chooses candidates on the command line."""

import pandas as pd

from .conftest import SMALL


def test_the_default_stores_sensitivities_of_every_choice(hwsearch, tiny, tmp_path):
    assert hwsearch("search", *tiny, *SMALL, f"run_dir={tmp_path / 'run'}").status == 0
    table = pd.read_csv(tmp_path / "run" / "sensitivity.csv", keep_default_na=False)
    assert set(table["operand"]) == {"weights", "activations"}
    assert table.groupby("layer").size().tolist() == [3, 3]  # W4, W8, A8


def test_sensitivities_of_another_search_are_used_again(hwsearch, tiny, tmp_path):
    assert hwsearch("search", *tiny, *SMALL, f"run_dir={tmp_path / 'run'}").status == 0
    (stored,) = (tmp_path / "cache" / "sensitivities").iterdir()
    doubled = pd.read_csv(stored, keep_default_na=False)
    doubled["loss"] *= 2
    doubled.to_csv(stored, index=False)
    assert hwsearch("search", *tiny, *SMALL, "seed=1", f"run_dir={tmp_path / 'other'}").status == 0
    assert (tmp_path / "other" / "sensitivity.csv").read_text() == stored.read_text()
    assert hwsearch("search", *tiny, *SMALL, "sensitivity=mse", f"run_dir={tmp_path / 'mse'}").status == 0
    assert (tmp_path / "mse" / "sensitivity.csv").read_text() != stored.read_text()


def test_a_plain_sampler_needs_no_sensitivities(hwsearch, tiny, tmp_path):
    assert hwsearch("search", *tiny, *SMALL, "sampler=random", f"run_dir={tmp_path / 'run'}").status == 0
    assert not (tmp_path / "run" / "sensitivity.csv").exists()
