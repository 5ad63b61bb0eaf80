"""Machine code kept on disk: used again, but never by what it was not made for."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from quantum_hybrid.compiled.layout import VARIABLE
from quantum_hybrid.compiled.machine_code import _Files

KERNEL = """
import parts
from quantum_hybrid.compiled.lanes import ROW_BYTES
from quantum_hybrid.compiled.machine_code import compiled

FACTOR = parts.FACTOR

@compiled
def scaled(x):
    return FACTOR * ROW_BYTES * x

if __name__ == "__main__":
    print(scaled(1), sum(scaled.stats.cache_hits.values()))
"""


def run(folder: Path, layout: str, factor: int = 1) -> str:
    """What the kernel prints: its result, and how often it was found on disk."""
    (folder / "kernel.py").write_text(KERNEL)
    (folder / "parts.py").write_text(f"FACTOR = {factor}")
    variables = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-B", "kernel.py"],
        cwd=folder,
        env=variables | {VARIABLE: layout},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


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
