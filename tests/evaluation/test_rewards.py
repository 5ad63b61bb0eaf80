"""The score of an answer: its formula and its range."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_hybrid.evaluation import likelihood_term, quantum_term, reward

losses = st.floats(0, 1e6)
gains = st.floats(-1e6, 1e6)
weights = st.floats(0, 1e6)
vocabularies = st.integers(2, 10**6)
properties = settings(derandomize=True, deadline=None, max_examples=200)


@given(loss=losses, gain=gains, vocabulary=vocabularies, w_p=weights, w_q=weights)
@properties
def test_a_reward_is_in_its_range_for_any_weights(loss, gain, vocabulary, w_p, w_q) -> None:
    score = reward(loss, gain, vocabulary, perplexity_weight=w_p, quantum_weight=w_q)
    assert -1 <= score <= 1


@given(
    loss=st.floats(0, 50),
    more=st.floats(1e-3, 50),
    gain=st.floats(-3, 3),
    vocabulary=vocabularies,
    w_p=st.floats(0.01, 10),
    w_q=weights,
)
@properties
def test_a_likelier_answer_scores_strictly_higher(loss, more, gain, vocabulary, w_p, w_q) -> None:
    assert likelihood_term(loss, vocabulary) > likelihood_term(loss + more, vocabulary)
    w_q = min(w_q, 1e3)
    scores = [
        reward(value, gain, vocabulary, perplexity_weight=w_p, quantum_weight=w_q)
        for value in (loss, loss + more)
    ]
    assert scores[0] > scores[1]


@given(loss=st.floats(0, 50), gain=st.floats(-3, 3), more=st.floats(1e-3, 3))
@properties
def test_a_larger_gain_scores_strictly_higher(loss, gain, more) -> None:
    assert quantum_term(gain + more) > quantum_term(gain)
    scores = [
        reward(loss, value, 50_257, perplexity_weight=0.7, quantum_weight=0.3)
        for value in (gain, gain + more)
    ]
    assert scores[0] < scores[1]


@given(vocabulary=vocabularies)
@properties
def test_a_uniform_guess_is_worth_nothing(vocabulary) -> None:
    assert likelihood_term(math.log(vocabulary), vocabulary) == 0
    assert quantum_term(0.0) == 0
    score = reward(math.log(vocabulary), 0.0, vocabulary, perplexity_weight=0.7, quantum_weight=0.3)
    assert score == 0


def test_a_certain_and_right_prediction_is_worth_one() -> None:
    assert likelihood_term(0.0, 50_257) == 1
    assert reward(0.0, 100.0, 50_257, perplexity_weight=0.7, quantum_weight=0.3) == 1


@pytest.mark.parametrize(
    ("w_p", "w_q", "divisor"), [(0.7, 0.3, 1.0), (0.2, 0.1, 1.0), (3.0, 1.0, 4.0), (0.0, 0.0, 1.0)]
)
def test_the_formula(w_p, w_q, divisor) -> None:
    loss, gain, vocabulary = 2.5, 0.2, 1000
    a = (math.log(1000) - 2.5) / (math.log(1000) + 2.5)
    b = (math.exp(0.2) - math.exp(-0.2)) / (math.exp(0.2) + math.exp(-0.2))
    score = reward(loss, gain, vocabulary, perplexity_weight=w_p, quantum_weight=w_q)
    assert score == pytest.approx((w_p * a + w_q * b) / divisor, abs=1e-12)
