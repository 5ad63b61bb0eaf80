"""Near-duplicates: the rule by examples, against a comparison of all pairs, and its cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_hybrid.text import duplicates
from quantum_hybrid.text.duplicates import THRESHOLD, NearDuplicates, grams


def similarity(one: str, other: str) -> float:
    a, b = grams(one), grams(other)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize(
    ("one", "other", "is_near"),
    [
        ("How do I boil an egg?", "how do I  BOIL an egg?\n", True),
        ("How do I boil an egg, please?", "How do I boil an egg please?", True),
        ("How do I boil an egg?", "How do I fry an egg?", False),
        ("Write a poem about the sea.", "Write a poem about the moon.", True),
        ("Write a poem about the sea.", "Write a poem about an old oak.", False),
        ("如何煮鸡蛋才能不裂开又好剥壳呢", "如何煮鸡蛋才能不裂开又好剥壳呢？", True),
        ("如何煮鸡蛋才能不裂开又好剥壳呢", "天空为什么在白天看起来是蓝色的", False),
        ("no", "No", True),
        ("no", "on", False),
        ("", " ?! ", True),
        ("क्या", "किया", False),  # marks within a word are no punctuation
        ("😀", "😎", False),
    ],
)
def test_what_nearly_repeats_a_text(one, other, is_near) -> None:
    for first, second in ((one, other), (other, one)):
        seen = NearDuplicates()
        assert seen.add(first) is None
        assert seen.add(second) == (0 if is_near else None)


def test_the_threshold_itself_is_near() -> None:
    """Of 10 grams in all 7 are shared, which floats would get wrong for other numbers."""
    one, other = "abcdefghijk", "abcdefghijkLMN"
    assert similarity(one, other) == 0.7
    seen = NearDuplicates()
    assert [seen.add(one), seen.add(other)] == [None, 0]
    assert seen.add("abcdefghijkLMNO") is None  # 7 of 11, and 10 of 11 of one that was dropped


TEXTS = st.lists(st.text("ab ", max_size=12), max_size=30)


@given(TEXTS)
def test_no_pair_is_missed(texts) -> None:
    seen, kept = NearDuplicates(), []
    for text in texts:
        near = [i for i, other in enumerate(kept) if similarity(text, other) >= THRESHOLD]
        assert seen.add(text) == (near[0] if near else None)
        if not near:
            kept.append(text)


def test_a_common_opening_makes_no_two_texts_be_compared(monkeypatch) -> None:
    """Of 1,000 prompts with the same opening there are half a million pairs."""
    n_compared = 0
    are_near = duplicates.are_near

    def counted(one: frozenset[str], other: frozenset[str]) -> bool:
        nonlocal n_compared
        n_compared += 1
        return are_near(one, other)

    monkeypatch.setattr(duplicates, "are_near", counted)
    seen = NearDuplicates()
    for i in range(1000):
        topic = " ".join(str(pow(i + 3, power, 1_000_003)) for power in range(2, 8))
        assert seen.add(f"Can you provide a list of {topic}?") is None
    assert n_compared < 20_000
