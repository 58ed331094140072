"""The vectorised sampler against a plain one, one row and one rule at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from node.engines.text.sampler import Draw, Sampling, sample

VOCABULARY = 23
samplings = st.builds(
    Sampling,
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 10, 100]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
draws = st.builds(
    Draw,
    samplings,
    st.floats(0, 1, exclude_max=True, width=32),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=5),
)


def plain_shares(logits: np.ndarray, draw: Draw) -> np.ndarray:
    """What each token should be chosen with, by the rules written out."""
    sampling = draw.sampling
    scores = logits.astype(np.float64)
    for token in set(draw.seen):
        scores[token] = scores[token] * (
            1 / sampling.repetition_penalty if scores[token] > 0 else sampling.repetition_penalty
        )
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


@given(st.lists(draws, min_size=1, max_size=6), st.integers(0, 1000))
def test_every_row_falls_where_the_plain_rules_put_it(batch: list[Draw], seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (len(batch), VOCABULARY)).astype(np.float32)
    tokens = sample(torch.tensor(logits), batch)
    for row, draw, token in zip(logits, batch, tokens, strict=True):
        shares = plain_shares(row, draw)
        below = shares[:token].sum()
        assert shares[token] > 0
        assert draw.sampling.is_greedy or below - 1e-5 <= draw.uniform <= below + shares[token] + 1e-5


@given(st.lists(draws, min_size=2, max_size=6), st.integers(0, 1000))
def test_a_row_is_chosen_alone_as_in_a_batch(batch: list[Draw], seed: int) -> None:
    logits = torch.tensor(np.random.default_rng(seed).normal(0, 3, (len(batch), VOCABULARY)), dtype=torch.float32)
    together = sample(logits.clone(), batch)
    assert together == [sample(logits[i : i + 1].clone(), [draw])[0] for i, draw in enumerate(batch)]


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
    assert sample(logits, [Draw(penalty, 0.0, [0]), Draw(penalty, 0.0, [0])]) == [1, 1]
