"""Targets that LLVM knows, and the messages that others give."""

from typing import Any

import pytest

from cost_models.tvm.target import Target, compiler_versions, host, host_cpu_model, require_runs_here, resolve

ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a76", "mattr": ["+i8mm"]}


def test_host_runs_here() -> None:
    require_runs_here(host())
    assert resolve("host") == resolve(host().attributes) == host()


def test_attributes_are_those_given() -> None:
    assert resolve(ARM).attributes == ARM


def test_a_cpu_without_a_triple_is_of_this_architecture() -> None:
    assert resolve({"kind": "llvm"}) == Target(host().mtriple, "generic")


def test_features_follow_cpu_and_switches() -> None:
    assert {"dotprod", "i8mm"} < resolve(ARM).features
    assert "i8mm" not in resolve(ARM | {"mattr": []}).features
    assert "dotprod" not in resolve(ARM | {"mattr": ["-dotprod"]}).features


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("hots", r"^Target 'hots' is neither 'host' nor a mapping such as \{'kind': 'llvm', 'mtriple': "),
        ({"kind": "lvm"}, r"^Target: unknown kind 'lvm'; choose from \['llvm'\]\.$"),
        ({"mcpu": "znver4"}, r"unknown kind None"),
        ({"kind": "llvm", "cpu": "znver4"}, r"unknown key 'cpu'; choose from \['kind', 'mabi', 'mattr', 'mcpu', "),
        (ARM | {"mcpu": "cortex-a67"}, r"unknown aarch64 mcpu 'cortex-a67'; choose from \[.*'cortex-a76'"),
        (ARM | {"mcpu": "z"}, r"unknown aarch64 mcpu 'z'; choose from LLVM's \d+, e\.g\. \['a64fx', "),
        (ARM | {"mtriple": "aarch65-linux"}, r"architecture in mtriple 'aarch65'; choose from \['aarch64', "),
        (ARM | {"mattr": ["+i8m"]}, r"unknown aarch64 feature 'i8m'; choose from \['i8mm'"),
        (ARM | {"mattr": ["i8mm"]}, r"mattr holds \['i8mm'\]; a feature begins with '\+' \(on\) or '-' \(off\)"),
    ],
)
def test_unknown_values_are_named_with_their_choices(description: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(description)


@pytest.mark.parametrize("change", [{"mattr": "+i8mm"}, {"mcpu": 76}])
def test_wrong_types_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^Target: {next(iter(change))} is a "):
        resolve(ARM | change)


def test_another_architecture_does_not_run_here() -> None:
    with pytest.raises(ValueError, match="no CPU of this machine, whose architecture is"):
        require_runs_here(Target(f"no{host().mtriple}"))


@pytest.mark.skipif(host().architecture != "x86_64", reason="names features of x86")
def test_features_that_this_machine_lacks_are_named() -> None:
    with pytest.raises(ValueError, match=r"needs CPU features \[.*'xop'.*\], which this machine \('.+'\) lacks"):
        require_runs_here(resolve({"kind": "llvm", "mattr": ["+xop"]}))


def test_the_machine_and_the_compiler_are_named() -> None:
    assert host_cpu_model() == host_cpu_model().strip() != ""
    assert set(compiler_versions()) == {"tvm", "tvm_ffi", "llvm"}
    assert all(compiler_versions().values())
