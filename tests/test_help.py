"""Every script says what it does when it is asked, and does nothing else."""

import os
import runpy
import sys

import pytest
from conftest import ROOT

SCRIPTS = sorted(file.stem for file in (ROOT / "stages").glob("*.py") if file.stem != "__init__")


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A function that runs a script in an empty folder, in this process, and gives its exit status."""
    monkeypatch.chdir(tmp_path)

    def ask(script: str, *arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        monkeypatch.delitem(sys.modules, f"stages.{script}", raising=False)
        with pytest.raises(SystemExit) as stopped:
            runpy.run_module(f"stages.{script}", run_name="__main__", alter_sys=True)
        assert list(tmp_path.iterdir()) == []
        return stopped.value.code

    return ask


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_printed_and_nothing_done(asked, capsys, script):
    assert asked(script, "--help") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: ")
    assert f"python -m stages.{script.removesuffix('_weights')}" in printed.out, "an example of its use"
    assert printed.err == ""


def test_the_help_of_evaluate_with_weights_is_that_of_the_program_it_starts(asked, monkeypatch, capsys):
    started = []

    def execv(path, arguments):
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    assert asked("evaluate", "--weights", "--help") == 0
    assert started == [[sys.executable, "-m", "stages.evaluate_weights", "--weights", "--help"]]
    assert asked("evaluate_weights", "--help") == 0
    assert "--protocol" in capsys.readouterr().out
