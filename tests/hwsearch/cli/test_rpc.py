"""Commands on a device that TVM's RPC reaches, where it is not there."""

import pandas as pd
import pytest

from cost_models.tvm.target import host_cpu_model

from .conftest import QUICK, SMALL


@pytest.fixture
def offline(hwsearch, tiny, tmp_path):
    """Options of a device that is gone; a machine with the same CPU, this one, has measured all its figures."""
    sizes = [f"+hardware.procedure.{name}=1048576" for name in ("rotated_bytes", "cold_bytes")]  # else as machines tell
    few = "hardware.excluded_methods=[winograd,bit_serial]"
    measured = [*tiny, *QUICK, *sizes, few, f"hardware.cache_dir={tmp_path / 'measured'}"]
    result = hwsearch("profile", *measured, "hardware=tvm_cpu", f"run_dir={tmp_path / 'profile'}")
    assert result.status == 0, result.err
    device = ["hardware=tvm_rpc", "hardware.tracker=127.0.0.1:1", "hardware.key=board"]
    return [*measured, *device, f'hardware.cpu_model="{host_cpu_model()}"']


def test_a_search_with_all_its_figures_cached_needs_no_device(hwsearch, offline, tmp_path):
    result = hwsearch("search", *offline, *SMALL, f"run_dir={tmp_path / 'run'}")
    assert result.status == 0, result.err
    assert result.out.count("measured_latency_s stays unknown: No RPC tracker answers at '127.0.0.1:1'") == 1
    pareto = pd.read_csv(tmp_path / "run" / "pareto.csv")
    quantized = pareto[pareto["kind"] != "float"]
    assert (quantized["latency_s"] > 0).all()
    assert quantized["measured_latency_s"].isna().all()


def test_a_tracker_without_a_port_is_refused_before_any_work(hwsearch, tmp_path):
    device = ["hardware=tvm_rpc", "hardware.tracker=pi", "hardware.key=board"]
    result = hwsearch("profile", *device, f"run_dir={tmp_path}")
    assert result.status == 2
    assert result.err.startswith("Error: hardware: RPC tracker 'pi' is not of the form host:port, e.g. ")
