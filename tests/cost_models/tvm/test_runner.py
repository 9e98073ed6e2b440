"""This machine as a place where kernels run."""

from pathlib import Path

import pytest

from cost_models.tvm.runner import TYPICAL_L2_BYTES, LocalRunner, l2_bytes
from cost_models.tvm.target import Target, host_cpu_model


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    for index, (level, size) in enumerate([("1", "32K"), ("1", "32K"), ("2", "1024K"), ("3", "32M")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "level").write_text(f"{level}\n")
        (folder / "size").write_text(f"{size}\n")
    return tmp_path


def test_l2_size_is_read_where_the_system_tells(caches: Path) -> None:
    assert l2_bytes(caches) == 1 << 20


def test_l2_size_is_typical_where_it_does_not(tmp_path: Path) -> None:
    assert l2_bytes(tmp_path / "missing") == TYPICAL_L2_BYTES


def test_a_target_that_this_machine_does_not_run_is_refused_before_it_crashes() -> None:
    with pytest.raises(ValueError, match="no CPU of this machine"):
        LocalRunner(Target("no-such-machine"))


def test_the_host_names_its_cpu() -> None:
    assert LocalRunner.host().cpu_model == host_cpu_model()
