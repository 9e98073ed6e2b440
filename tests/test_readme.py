"""What the README shows can be pasted and runs."""

import re
import shlex
from pathlib import Path

import pytest

from hwsearch.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (device,) = blocks("yaml")
    (example,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    Path("npu.yaml").write_text(device)
    exec(compile(example, "README.md", "exec"), {})
    assert "uniform" in capsys.readouterr().out


COMMANDS = [
    line.partition("#")[0].strip()
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith("hwsearch")
]


@pytest.mark.parametrize("command", [c for c in COMMANDS if re.match(r"hwsearch (list|evaluate|study)\b", c)])
def test_a_short_command_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with_exit = shlex.split(command)[1:]
    app(with_exit, standalone_mode=False)
    assert capsys.readouterr().out


@pytest.mark.slow
def test_the_search_and_compare_commands_run(tmp_path, monkeypatch, capsys):
    """As they stand, but for a smaller number of trials; those that need files of the reader's are left out."""
    monkeypatch.chdir(tmp_path)
    searches = [
        c for c in COMMANDS if f"{c} ".startswith("hwsearch search ") and "DIR" not in c and "../shared" not in c
    ]
    assert len(searches) >= 4
    for number, command in enumerate(searches):
        args = [arg for arg in shlex.split(command)[1:] if not arg.startswith("n_trials=")]
        folder = [] if any(arg.startswith("run_dir=") for arg in args) else [f"run_dir=runs/{number}"]
        app([*args, "n_trials=14", *folder], standalone_mode=False)
    (compare,) = [c for c in COMMANDS if " compare " in c and "--on" not in c and "../shared" not in c]
    args = [
        match
        for arg in shlex.split(compare)[1:]
        for match in (sorted(map(str, Path().glob(arg))) if "*" in arg else [arg])
    ]
    app(args, standalone_mode=False)
    assert "union" in capsys.readouterr().out
    assert Path("runs/compare/compare.png").exists()


def test_files_that_the_readme_names_exist():
    named = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"`(conf/[\w/.]+)`", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_make_has_the_targets_that_the_readme_names():
    makefile = (ROOT / "Makefile").read_text()
    assert all(
        f"\n{target}:" in makefile for block in blocks("sh") for target in re.findall(r"^make (\w+)", block, re.M)
    )
