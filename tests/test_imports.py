"""Imports point one way: the picture of 'Direction of imports' in the architecture notes.

cost_models  <-  hwsearch.{graph, costs, lowering, export}  <-  hwsearch.cli
numpy/pandas <-  hwsearch.{pareto, compare}   (no torch, no Optuna)
optuna       <-  hwsearch.search              (no torch)
"""

import ast
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import hwsearch

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("cost_models", "hwsearch") for path in (ROOT / package).rglob("*.py"))

OWNERS = {
    "hydra": {"hwsearch.cli"},
    "omegaconf": {"hwsearch.cli"},
    "typer": {"hwsearch.cli", "hwsearch.networks.train_digits"},
    "platformdirs": {"cost_models.tvm", "hwsearch.cli"},  # where caches lie
    "optuna": {"hwsearch.search"},
    "sqlalchemy": {"hwsearch.search"},
    "moocore": {"hwsearch.pareto"},
    "ruamel": {"hwsearch.calibration"},
    "matplotlib": {"hwsearch.figures"},
    "sklearn": {"hwsearch.data"},
    "torchvision": {"hwsearch.data"},
    "torch": {
        "hwsearch.cli",
        "hwsearch.data",
        "hwsearch.evaluate",
        "hwsearch.export",
        "hwsearch.graph",
        "hwsearch.judging",
        "hwsearch.lowering",
        "hwsearch.networks",
        "hwsearch.quantize",
        "hwsearch.sensitivity",
        "hwsearch.train",
    },
    "tvm": {"cost_models.tvm", "hwsearch.export.run", "hwsearch.lowering"},  # run.py is copied into exports
    "hwsearch": {"hwsearch"},
}
"""Where a library, or the package itself, may be imported; anywhere below these modules."""

LIGHT = {
    "cost_models": {"hwsearch", "hydra", "optuna", "torch", "tvm"},
    "hwsearch": {"cost_models", "hydra", "optuna", "pandas", "torch", "tvm"},
    "hwsearch.cli": {"hydra", "optuna", "pandas", "torch", "tvm"},
    "hwsearch.compare": {"hydra", "optuna", "torch", "tvm"},
    "hwsearch.transfer_report": {"hydra", "optuna", "torch", "tvm"},  # and with it costs and transfer
    "hwsearch.pareto": {"hydra", "optuna", "torch", "tvm"},
    "hwsearch.report": {"hydra", "optuna", "torch", "tvm"},
    "hwsearch.search": {"hydra", "torch", "tvm"},
    "hwsearch.sensitivity_table": {"hydra", "optuna", "torch", "tvm"},
}
"""What must not even be loaded, through whatever else a module imports."""


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported(path):
    """Every module that a file imports, at the top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name of what is imported"
            names.append(node.module)
    return names


def is_below(module, owners):
    return any(f"{module}.".startswith(f"{owner}.") for owner in owners)


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_in_one_place(library):
    found = {
        module_of(path)
        for path in FILES
        if any(is_below(name, {library}) for name in imported(path)) and not is_below(module_of(path), OWNERS[library])
    }
    assert found == set()


def test_cost_models_import_only_themselves_and_libraries_of_numbers_and_files():
    roots = {
        name.partition(".")[0]
        for path in FILES
        if is_below(module_of(path), {"cost_models"})
        for name in imported(path)
    }
    numbers_and_files = {"numpy", "pandas", "platformdirs", "pydantic", "yaml"}
    assert roots - sys.stdlib_module_names - {"cost_models", "tvm"} <= numbers_and_files


def test_the_command_line_is_on_top():
    below = [path for path in FILES if not is_below(module_of(path), {"hwsearch.cli", "hwsearch.__main__"})]
    assert [path for path in below if any(is_below(name, {"hwsearch.cli"}) for name in imported(path))] == []


def test_parts_do_not_import_each_other_in_a_circle():
    graph = defaultdict(set)
    for path in FILES:
        part, names = ".".join(module_of(path).split(".")[:2]), imported(path)
        if part != "hwsearch":  # it names the public API, which is imported when it is asked for
            graph[part] |= {".".join(name.split(".")[:2]) for name in names if is_below(name, {"hwsearch"})} - {part}
    assert "hwsearch" not in set().union(*graph.values()), "import from the module, not from the package's public names"
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_nothing_heavy(module):
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert module.partition(".")[0] in loaded.split()
    assert LIGHT[module].intersection(loaded.split()) == set()


def test_public_names_are_there_and_no_module_shadows_them():
    for module in {path.relative_to(ROOT).with_suffix("") for path in FILES if path.parent == ROOT / "hwsearch"}:
        if not module.name.startswith("__"):
            import_module(".".join(module.parts))  # sets an attribute of the package
    for name in hwsearch.__all__:
        assert not isinstance(getattr(hwsearch, name), ModuleType), name


def test_an_unknown_public_name_is_refused():
    with pytest.raises(AttributeError, match=r"^module 'hwsearch' has no attribute 'serach'$"):
        hwsearch.serach  # noqa: B018
