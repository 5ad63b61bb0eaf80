"""When held-out texts were looked at."""

from __future__ import annotations

import shutil

from one_process import conducted
from quantum_hybrid.study.folder import opened
from quantum_hybrid.study.ground.corpus import Corpus
from quantum_hybrid.study.looks import Looks
from quantum_hybrid.study.plan import DEFAULT_PLAN


def test_a_study_of_some_of_the_same_texts_counts_as_another_look(
    small_study, small_plan, tmp_path
) -> None:
    changed = small_plan.model_copy(update={"first_seed": 7, "held_out": 20})
    second = conducted(tmp_path / "two", changed)
    looks = [(look.plan, look.n_units) for look in second.looks]
    assert looks.index((small_plan.digest, 20)) < looks.index((changed.digest, 20))


def test_judging_again_is_a_second_look(small_study, tmp_path) -> None:
    path = tmp_path / "study"
    shutil.copytree(small_study, path)
    for file in (path / "losses").iterdir():
        file.unlink()
    conducted(path, None)
    with opened(path, None, DEFAULT_PLAN) as study:
        looks = Looks(study, Corpus.read(study.text).held_out_digests).opened()
    # The study was copied after its first look. Copies of other tests have looked, too.
    of_this = [look for look in looks if look["study"] in (str(small_study), str(path))]
    assert [look["n_units"] for look in of_this] == [24, 24]


def test_looks_are_remembered_by_the_study_when_the_cache_has_been_cleared(
    small_study, tmp_path, monkeypatch
) -> None:
    with opened(small_study, None, DEFAULT_PLAN) as study:
        units = Corpus.read(study.text).held_out_digests
        known = Looks(study, units).opened()
        monkeypatch.setenv("QUANTUM_HYBRID_CACHE", str(tmp_path))
        own = Looks(study, units).opened()
        assert own
        assert all(look in known for look in own)
