"""Which CPU kernels are compiled for, checked before LLVM sees it, and what identifies the machine that runs them."""

import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen

KINDS = ("llvm",)
KEYS = ("kind", "mtriple", "mcpu", "mattr", "mabi", "mfloat-abi")
HOST = "host"

CPUINFO = Path("/proc/cpuinfo")
CPUINFO_FIELDS = (
    "model name",
    "cpu family",
    "model",
    "stepping",
    "CPU implementer",
    "CPU part",
    "CPU variant",
    "uarch",
)
"""What tells CPUs apart, on x86, Arm and RISC-V."""

SYSTEM_INSTRUCTIONS = {"clwb", "clzero", "mwaitx", "pconfig", "pku", "prefetchi", "rdpru", "sgx", "waitpkg", "wbnoinvd"}
"""Features of x86 that hypervisors hide, and that LLVM uses only where a program asks for them by name."""

SHOWN_CHOICES = 5


@dataclass(frozen=True)
class Target:
    """A CPU that LLVM compiles for.

    Attributes:
        mtriple: LLVM triple, e.g. ``aarch64-linux-gnu``.
        mcpu: LLVM's name of the CPU, e.g. ``znver4``.
        mattr: CPU features switched on or off, e.g. ``("+i8mm",)``.
        mabi: ABI, where LLVM knows several.
        mfloat_abi: ``"hard"`` or ``"soft"``, on Arm.
    """

    mtriple: str
    mcpu: str = "generic"
    mattr: tuple[str, ...] = ()
    mabi: str = ""
    mfloat_abi: str = ""

    @property
    def attributes(self) -> dict[str, Any]:
        """What ``tvm.target.Target`` takes."""
        fields = {"mabi": self.mabi, "mfloat-abi": self.mfloat_abi, "mattr": list(self.mattr)}
        return {"kind": "llvm", "mtriple": self.mtriple, "mcpu": self.mcpu} | {k: v for k, v in fields.items() if v}

    @cached_property
    def features(self) -> frozenset[str]:
        """LLVM's names of the CPU's features, e.g. ``avx512vnni``."""
        return frozenset(codegen.llvm_get_cpu_features(tvm.target.Target(self.attributes)))

    @property
    def architecture(self) -> str:
        """First part of the triple, e.g. ``x86_64``."""
        return self.mtriple.partition("-")[0]


def resolve(description: str | Mapping[str, Any]) -> Target:
    """Read a target.

    Args:
        description: ``"host"``, or a mapping such as ``{"kind": "llvm", "mcpu": "znver4"}``; without ``mtriple`` it is
            a CPU of this machine's architecture and system.

    Raises:
        TypeError: If a value is of the wrong type.
        ValueError: If a key or value is unknown; the message names it and the choices.
    """
    if description == HOST:
        return host()
    if not isinstance(description, Mapping):
        raise ValueError(f"Target {description!r} is neither '{HOST}' nor a mapping such as {host().attributes}.")
    for key in description:
        _require("key", key, KEYS)
    _require("kind", description.get("kind"), KINDS)
    for key in set(description) - {"mattr"}:
        if not isinstance(description[key], str):
            raise TypeError(f"Target: {key} is a string, not {description[key]!r}.")
    target = Target(
        mtriple=description.get("mtriple", codegen.llvm_get_system_triple()),
        mcpu=description.get("mcpu", "generic"),
        mattr=_features_switched(description.get("mattr", ())),
        mabi=description.get("mabi", ""),
        mfloat_abi=description.get("mfloat-abi", ""),
    )
    _check_llvm_knows(target)
    return target


def host() -> Target:
    """The machine that this runs on.

    A feature that LLVM expects of the CPU, and that a hypervisor hides, is switched off.
    """
    named = Target(codegen.llvm_get_system_triple(), codegen.llvm_get_system_cpu())
    return Target(named.mtriple, named.mcpu, tuple(f"-{feature}" for feature in _missing_here(named)))


def require_runs_here(target: Target) -> None:
    """Do nothing if this machine executes what is compiled for ``target``.

    Raises:
        ValueError: Otherwise, naming the architecture, or the features that are missing.
    """
    here = host()
    if target.architecture != here.architecture:
        raise ValueError(
            f"Target {target.attributes} is no CPU of this machine, whose architecture is '{here.architecture}'; "
            f"measure on the device itself, with hardware=tvm_rpc."
        )
    missing = _missing_here(target)
    if missing:
        raise ValueError(
            f"Target {target.attributes} needs CPU features {missing}, which this machine ('{here.mcpu}') lacks; "
            f"use '{HOST}', or switch them off in mattr."
        )


@cache
def host_cpu_model() -> str:
    """This machine's CPU in words, e.g. ``AMD EPYC, cpu family 25, model 17, stepping 1``."""
    if not CPUINFO.exists():
        return platform.processor() or platform.machine()
    first = CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    known = [f"{key} {fields[key]}".removeprefix("model name ") for key in CPUINFO_FIELDS if key in fields]
    return ", ".join(known) or platform.machine()


@cache
def compiler_versions() -> Mapping[str, str]:
    """Versions that a compiled kernel depends on: TVM (its wheel fixes LLVM's) and its foreign function interface."""
    return {
        "tvm": version("apache-tvm"),
        "tvm_ffi": version("apache-tvm-ffi"),
        "llvm": str(codegen.llvm_version_major()),
    }


def _missing_here(target: Target) -> list[str]:
    available = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    absent = {str(name) for name, present in available.items() if not present}
    return sorted(absent & target.features - SYSTEM_INSTRUCTIONS)


def _features_switched(mattr: Any) -> tuple[str, ...]:
    if isinstance(mattr, str) or not all(isinstance(feature, str) for feature in mattr):
        raise TypeError(f"Target: mattr is a list such as ['+i8mm'], not {mattr!r}.")
    wrong = [feature for feature in mattr if feature[:1] not in ("+", "-")]
    if wrong:
        raise ValueError(f"Target: mattr holds {wrong}; a feature begins with '+' (on) or '-' (off).")
    return tuple(mattr)


def _check_llvm_knows(target: Target) -> None:
    if not codegen.llvm_is_valid_cpu("generic", target.mtriple):
        _require("architecture in mtriple", target.architecture, tuple(map(str, codegen.llvm_get_targets())))
    cpus = tuple(
        map(str, codegen.llvm_get_cpu_archlist(tvm.target.Target({"kind": "llvm", "mtriple": target.mtriple})))
    )
    _require(f"{target.architecture} mcpu", target.mcpu, cpus)
    names = [feature[1:] for feature in target.mattr]
    known = Target(target.mtriple, target.mcpu, tuple(f"+{name}" for name in names)).features
    unknown = [name for name in names if name not in known]
    if unknown:
        every = {feature for cpu in cpus for feature in Target(target.mtriple, cpu).features}
        _require(f"{target.architecture} feature", unknown[0], every)


def _require(what: str, value: Any, choices: Collection[str]) -> None:
    """Refuse a value that is no choice; of many choices, show the close ones."""
    if value in choices:
        return
    close = get_close_matches(str(value), choices, n=SHOWN_CHOICES)
    few = len(choices) <= 2 * SHOWN_CHOICES
    shown = sorted(choices) if few else close or f"LLVM's {len(choices)}, e.g. {sorted(choices)[:SHOWN_CHOICES]}"
    raise ValueError(f"Target: unknown {what} {value!r}; choose from {shown}.")
