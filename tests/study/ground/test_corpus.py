"""The text of a study: its parts, what is left out, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from quantum_hybrid.errors import CheckpointError, UsageError
from quantum_hybrid.study.ground.corpus import PARTS, Corpus, gather
from quantum_hybrid.study.plan import StudyPlan


def silent(line: str) -> None:
    """Progress that nobody reads."""


def test_documents_fall_into_parts_of_the_planned_sizes_without_repetition(plan) -> None:
    corpus = gather(plan, silent)
    sizes = {part: len(units) for part, units in corpus.parts.items()}
    assert sizes == {"training": 50, "validation": 12, "held-out": 24}
    texts = [unit.text for part in PARTS for unit in corpus.parts[part]]
    assert len(set(texts)) == 86
    assert corpus.unit == "document"


def test_documents_of_a_part_are_neighbours_in_the_file(plan) -> None:
    """Neighbours may be of one work; only a cut between two parts separates them."""
    corpus = gather(plan, silent)
    places = [sorted(int(unit.name.split()[1]) for unit in corpus.parts[part]) for part in PARTS]
    assert places[0][-1] < places[1][0]
    assert places[1][-1] < places[2][0]
    texts = [unit.name for unit in corpus.parts["training"]]
    in_the_file = sorted(texts, key=lambda name: int(name.split()[1]))
    assert texts not in (in_the_file, in_the_file[::-1])


def test_documents_that_differ_beyond_what_is_used_are_repeated(plan, tmp_path) -> None:
    opening = " ".join(f"word{i}" for i in range(60))
    endings = [" ".join(f"{kind}{i}" for i in range(200)) for kind in "ab"]
    file = tmp_path / "documents.txt"
    file.write_text("\n\n".join(f"{opening} {end}" for end in endings), encoding="utf-8")
    for longest, kept in ((48, 1), (1024, 2)):
        changed = plan.model_copy(update={"text": str(file), "longest_unit": longest})
        with pytest.raises(UsageError, match=f"{kept} usable units"):
            gather(changed, silent)


def test_another_text_seed_gives_other_parts(plan) -> None:
    first = gather(plan, silent)
    second = gather(plan.model_copy(update={"text_seed": plan.text_seed + 1}), silent)
    assert first.held_out_digests != second.held_out_digests
    assert first.held_out_digests == gather(plan, silent).held_out_digests


def test_headings_and_near_duplicates_are_left_out_and_counted(plan, text, tmp_path) -> None:
    file = tmp_path / "documents.txt"
    content = text.read_text(encoding="utf-8")
    first = content.partition("\n\n")[0]
    # A sentence of a script without spaces is no heading.
    sentence = (
        "春天来了，村子里的孩子们都跑到河边去看那座新修的石桥，老人们坐在树下讲着从前的故事。"
    )
    parts = ["A heading", f"{first.upper()}!", sentence, content]
    file.write_text("\n\n".join(parts), encoding="utf-8")
    all_of_it = {"text": str(file), "training": 1000}
    with pytest.raises(UsageError, match=r"115 usable units") as caught:
        gather(plan.model_copy(update=all_of_it), silent)
    assert "1 fewer than 5 words and 40 characters" in str(caught.value)
    assert "1 text nearly repeated" in str(caught.value)


def test_what_the_plan_does_not_need_is_a_random_part_of_the_file_and_is_counted(plan) -> None:
    corpus = gather(plan, silent)
    assert corpus.left_out == {"not needed by the plan": 114 - 86}
    numbers = sorted(int(unit.name.split()[1]) for part in PARTS for unit in corpus.parts[part])
    assert numbers[-1] > 100


def test_a_file_with_too_few_documents_is_refused_with_its_number(plan) -> None:
    with pytest.raises(UsageError, match=r"114 usable units, and the plan wants 136 \(none was"):
        gather(plan.model_copy(update={"training": 100}), silent)


def test_a_file_that_is_no_text_is_refused(plan, tmp_path) -> None:
    file = tmp_path / "documents.txt"
    file.write_bytes(b"one line\nanother \xff\n")
    with pytest.raises(UsageError, match=r"documents.txt', line 2: is not UTF-8"):
        gather(plan.model_copy(update={"text": str(file)}), silent)
    with pytest.raises(UsageError, match=r"gone.txt'\: cannot be read: No such file"):
        gather(plan.model_copy(update={"text": str(tmp_path / "gone.txt")}), silent)


def test_a_corpus_is_read_as_it_was_written(plan, tmp_path) -> None:
    corpus = gather(plan, silent)
    corpus.write(tmp_path / "text.json")
    assert Corpus.read(tmp_path / "text.json") == corpus
    (tmp_path / "text.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="not the text of a study"):
        Corpus.read(tmp_path / "text.json")


@pytest.fixture
def one_core() -> Iterator[None]:
    """The teacher takes all cores of the process, and here other tests run beside it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.slow
def test_the_embedded_teacher_answers_prompts_of_its_own(one_core) -> None:
    plan = StudyPlan(training=2, validation=2, held_out=2, longest_unit=8)
    corpus = gather(plan, silent)
    units = [unit for part in PARTS for unit in corpus.parts[part]]
    assert len({unit.prompt for unit in units}) == 6
    assert all(unit.text and unit.finish_reason in ("stop", "length") for unit in units)
    assert corpus.unit == "prompt"
    # From the cache, and so without another word of the teacher.
    assert gather(plan, silent) == corpus


def test_too_few_prompts_in_a_file_are_refused(tmp_path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("Why is the sky blue?\nHow do magnets work?\n", encoding="utf-8")
    plan = StudyPlan(prompts=str(file), training=8, validation=2, held_out=2, longest_unit=8)
    with pytest.raises(UsageError, match=r"2 usable units, and the plan wants 12"):
        gather(plan, silent)
