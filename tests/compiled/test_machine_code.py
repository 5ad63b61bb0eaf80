"""Machine code kept on disk: used again, but never by what it was not made for."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from quantum_hybrid.compiled import machine_code
from quantum_hybrid.compiled.layout import VARIABLE
from quantum_hybrid.compiled.machine_code import _Files

SOURCES = Path(machine_code.__file__).parents[1]

KERNEL = """
import parts
from quantum_hybrid.compiled.vectors import ROW_BYTES
from quantum_hybrid.compiled.machine_code import compiled

FACTOR = parts.FACTOR

@compiled
def scaled(x):
    return FACTOR * ROW_BYTES * x

def show():
    print(scaled(1), sum(scaled.stats.cache_hits.values()))
"""


def run(folder: Path, layout: str, factor: int = 1) -> str:
    """What the kernel prints: its result, and how often it was found on disk."""
    (folder / "kernel.py").write_text(KERNEL, encoding="utf-8")
    (folder / "parts.py").write_text(f"FACTOR = {factor}", encoding="utf-8")
    return python(folder, "import kernel; kernel.show()", {VARIABLE: layout}).stdout.strip()


def python(folder: Path, code: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run code in a folder, where nothing says where machine code goes."""
    others = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    return subprocess.run(
        [sys.executable, "-B", "-W", "always", "-c", code],
        cwd=folder,
        env=others | variables,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.slow
def test_a_change_in_another_module_is_seen(tmp_path):
    """As after an upgrade, which leaves machine code behind that it knows nothing of."""
    assert run(tmp_path, "16x3", factor=2) == "32 0"
    assert run(tmp_path, "16x3", factor=2) == "32 1"
    assert run(tmp_path, "16x3", factor=3) == "48 0"


@pytest.mark.slow
def test_layouts_that_share_a_folder_keep_their_own_code(tmp_path):
    assert run(tmp_path, "16x3") == "16 0"
    assert run(tmp_path, "64x4") == "64 0"
    assert run(tmp_path, "16x3") == "16 1"
    assert run(tmp_path, "64x4") == "64 1"


def test_two_that_save_at_the_same_time_keep_their_own_code(tmp_path, monkeypatch):
    """Each writes when the other has looked at what is there; the last to begin is the first to
    end."""
    replace, both_looked, turn = os.replace, threading.Barrier(2), threading.Condition()
    order, begun = ["one", "other", "other", "one"], set()

    def replace_in_order(*paths):
        name = threading.current_thread().name
        if name not in begun:
            begun.add(name)
            both_looked.wait(30)
        with turn:
            assert turn.wait_for(lambda: order[0] == name, 30)
            order.pop(0)
            replace(*paths)
            turn.notify_all()

    monkeypatch.setattr(os, "replace", replace_in_order)
    files = _Files(tmp_path, "kernel", "sources")
    savers = [
        threading.Thread(target=files.save, args=(f"key of {name}", f"code of {name}"), name=name)
        for name in ("one", "other")
    ]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert [files.load(f"key of {name}") for name in ("one", "other")] == [
        "code of one",
        "code of other",
    ]


def test_a_file_that_is_not_whole_counts_as_none(tmp_path):
    files = _Files(tmp_path, "kernel", "sources")
    assert files.load("key") is None
    files.save("key", "code")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40], whole[:-1] + b"x"):
        path.write_bytes(damaged)
        assert files.load("key") is None
    files.save("key", "code")
    assert files.load("key") == "code"


def test_what_was_made_of_other_sources_is_removed(tmp_path):
    """Or each change of a source would leave some megabytes behind."""
    before, after, another = (
        _Files(tmp_path, *names) for names in (("f", "before"), ("f", "after"), ("g", "before"))
    )
    for files in (before, another):
        for key in ("float32", "float64"):
            files.save(key, "code")
    after.save("float32", "new code")
    assert before.load("float32") is before.load("float64") is None
    assert after.load("float32") == "new code"
    assert another.load("float64") == "code"
    assert len(list(tmp_path.iterdir())) == 3


WARNING = "UserWarning: compiled kernels cannot be kept on disk"
LAYER = """
import torch
from quantum_hybrid.circuit import QuantumLayer, layer

with torch.no_grad():
    circuit = QuantumLayer(3, 2)
    circuit.weights.zero_()
    print(layer.__file__, circuit(torch.zeros(2, 3)).tolist())
"""


@pytest.mark.slow
def test_where_nothing_can_be_kept_a_layer_works_and_says_so_once(tmp_path):
    """As where neither the installation nor the home can be written to. These tests may run as
    root, who can write to any folder, but nobody can make one within a file: so files stand where
    the folders would be."""
    package = tmp_path / "quantum_hybrid"
    leave_out = shutil.ignore_patterns("__pycache__")
    for room in ("circuit", "compiled"):
        shutil.copytree(SOURCES / room, package / room, ignore=leave_out)
    (package / "__init__.py").touch()
    (package / "circuit/native/__pycache__").touch()
    home = tmp_path / "home"
    home.touch()
    variables = {"HOME": home, "XDG_CACHE_HOME": home, "LOCALAPPDATA": home, "PYTHONPATH": tmp_path}
    done = python(tmp_path, LAYER, {key: str(path) for key, path in variables.items()})
    ones = [[1.0] * 3] * 2
    assert done.stdout.strip() == f"{package / 'circuit/layer.py'} {ones}"
    assert done.stderr.count(WARNING) == 1
    assert "set NUMBA_CACHE_DIR to" in done.stderr


@pytest.mark.slow
def test_a_folder_that_turns_out_to_be_none_costs_only_time(tmp_path):
    """What a full disk says would be another error, but it comes at the same place."""
    (tmp_path / "kernel.py").write_text(KERNEL, encoding="utf-8")
    (tmp_path / "parts.py").write_text("FACTOR = 1", encoding="utf-8")
    code = """
import pathlib, kernel
folder = pathlib.Path("__pycache__")
folder.rmdir()
folder.touch()
kernel.show()
print(kernel.scaled(1.0))
"""
    done = python(tmp_path, code, {VARIABLE: "16x3"})
    assert done.stdout.split() == ["16", "0", "16.0"]
    assert done.stderr.count(WARNING) == 1
