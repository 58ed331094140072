"""The vectorised sampler against a plain one, one row and one rule at a time."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from node.engines.text.logprobs import Scores
from node.engines.text.penalties import Tally
from node.engines.text.sampler import Draw, Sampling, choose, sample

VOCABULARY = 23
samplings = st.builds(
    Sampling,
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
    frequency_penalty=st.sampled_from([0.0, 0.7, -1.5]),
    presence_penalty=st.sampled_from([0.0, 0.4, -2.0]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 10, 100]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
tokens_ = st.lists(st.integers(0, VOCABULARY - 1), max_size=9)


@dataclass(frozen=True)
class Case:
    """One row, and the tokens that its tally was made of."""

    sampling: Sampling
    uniform: float
    prompt: list[int]
    answer: list[int]
    allowed: np.ndarray | None

    @property
    def draw(self) -> Draw:
        tally = Tally(self.prompt)
        for token in self.answer:
            tally.add(token)
        return Draw(self.sampling, self.uniform, tally, self.allowed)


cases = st.builds(
    Case,
    samplings,
    st.floats(0, 1, exclude_max=True, width=32),
    tokens_,
    tokens_,
    st.none()
    | st.sets(st.integers(0, VOCABULARY - 1), min_size=1).map(lambda ids: np.isin(np.arange(VOCABULARY), list(ids))),
)


def plain_shares(logits: np.ndarray, case: Case) -> np.ndarray:
    """What each token should be chosen with, by the rules written out."""
    sampling = case.sampling
    scores = logits.astype(np.float64)
    for token in {*case.prompt, *case.answer}:
        scores[token] = scores[token] * (
            1 / sampling.repetition_penalty if scores[token] > 0 else sampling.repetition_penalty
        )
    for token in set(case.answer):
        scores[token] -= case.answer.count(token) * sampling.frequency_penalty + sampling.presence_penalty
    if case.allowed is not None:
        scores[~case.allowed] = -np.inf
    if sampling.temperature == 0:
        return np.eye(VOCABULARY)[scores.argmax()]
    shares = np.exp((scores - scores.max()) / sampling.temperature)
    order = np.argsort(-shares, kind="stable")
    if sampling.top_k:
        shares[order[sampling.top_k :]] = 0
    shares /= shares.sum()
    if sampling.top_p < 1:
        total = 0.0
        for token in order:
            if total >= sampling.top_p:
                shares[token] = 0
            total += shares[token]
    shares[shares < sampling.min_p * shares.max()] = 0
    return shares / shares.sum()


@given(st.lists(cases, min_size=1, max_size=6), st.integers(0, 1000))
def test_every_row_falls_where_the_plain_rules_put_it(batch: list[Case], seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (len(batch), VOCABULARY)).astype(np.float32)
    tokens = sample(torch.tensor(logits), [case.draw for case in batch])
    for row, case, token in zip(logits, batch, tokens, strict=True):
        shares = plain_shares(row, case)
        below = shares[:token].sum()
        assert shares[token] > 0
        assert case.sampling.is_greedy or below - 1e-5 <= case.uniform <= below + shares[token] + 1e-5


@given(st.lists(cases, min_size=2, max_size=6), st.integers(0, 1000))
def test_a_row_is_chosen_alone_as_in_a_batch(batch: list[Case], seed: int) -> None:
    logits = torch.tensor(np.random.default_rng(seed).normal(0, 3, (len(batch), VOCABULARY)), dtype=torch.float32)
    together = sample(logits.clone(), [case.draw for case in batch])
    assert together == [sample(logits[i : i + 1].clone(), [case.draw])[0] for i, case in enumerate(batch)]


@given(st.lists(cases, min_size=1, max_size=6), st.lists(st.none() | st.integers(0, 20), min_size=6, max_size=6))
def test_log_probabilities_are_the_models_own_whatever_the_row_is_chosen_by(
    batch: list[Case], tops: list[int | None]
) -> None:
    logits = torch.tensor(np.random.default_rng(len(batch)).normal(0, 3, (len(batch), VOCABULARY)), dtype=torch.float32)
    expected = logits.double().log_softmax(-1)
    draws = [replace(case.draw, logprobs=top) for case, top in zip(batch, tops, strict=False)]
    choices = choose(logits.clone(), draws)
    assert [choice.token for choice in choices] == sample(logits.clone(), [case.draw for case in batch])
    for row, choice, draw in zip(expected, choices, draws, strict=True):
        if draw.logprobs is None:
            assert choice.scores is None
            continue
        assert choice.scores is not None
        assert choice.scores.logprob == pytest.approx(row[choice.token].item(), abs=1e-5)
        likeliest = row.topk(draw.logprobs)
        assert [token for token, _ in choice.scores.top] == likeliest.indices.tolist()
        assert [logprob for _, logprob in choice.scores.top] == pytest.approx(likeliest.values.tolist(), abs=1e-5)


def test_a_token_that_the_model_rules_out_has_the_lowest_log_probability_there_is() -> None:
    logits = torch.tensor([[0.0, float("-inf")]])
    (choice,) = choose(logits, [Draw(Sampling(temperature=0), 0.0, logprobs=2)])
    assert choice.scores == Scores(0.0, [(0, 0.0), (1, -9999.0)])


def test_the_last_uniform_number_falls_on_the_last_possible_token() -> None:
    logits = torch.zeros(1, 5)
    possible = np.array([False, True, True, False, False])
    assert sample(logits, [Draw(Sampling(), 1 - 2**-53, allowed=possible)]) == [2]


def test_a_tally_counts_the_answer_alone_and_grows_past_its_first_room() -> None:
    tally = Tally([5, 5, 7])
    for token in [*range(200), 7, 7]:
        tally.add(token)
    counts = dict(zip(tally.ids.tolist(), tally.counts.tolist(), strict=True))
    assert counts == {token: 3.0 if token == 7 else 1.0 for token in range(200)}


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(top_k=2), {0, 1}),
        (Sampling(top_p=0.6), {0, 1}),
        (Sampling(top_p=0.4), {0}),
        (Sampling(min_p=0.5), {0, 1}),
        (Sampling(temperature=0), {0}),
        (Sampling(), {0, 1, 2, 3}),
    ],
)
def test_filters_leave_what_they_should(sampling: Sampling, allowed: set[int]) -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    uniforms = [i / 100 for i in range(100)]
    found = sample(logits.repeat(100, 1), [Draw(sampling, uniform) for uniform in uniforms])
    assert set(found) == allowed


def test_a_repetition_penalty_lowers_what_was_seen_whatever_its_sign() -> None:
    logits = torch.tensor([[2.0, 1.5, -3.0], [-1.0, -1.2, -3.0]])
    penalty = Sampling(repetition_penalty=1.5, temperature=0)
    assert sample(logits, [Draw(penalty, 0.0, Tally([0])), Draw(penalty, 0.0, Tally([0]))]) == [1, 1]
