"""The table of samples: no call of the pages is forgotten, and what runs is what is printed."""

from collections import Counter

import pytest
from clients.calls import CALLS, OUT_OF_SCOPE, calls_in, wanted
from clients.sample import Python, Sample
from clients.samples.table import SAMPLES

LAID_OUT = [sample for sample in SAMPLES if isinstance(sample.how, Python) and sample.how.laid_out]


def test_ids_are_unique() -> None:
    assert [name for name, count in Counter(sample.id for sample in SAMPLES).items() if count > 1] == []


@pytest.mark.parametrize("seed", CALLS)
def test_every_call_that_a_page_prints_has_a_row_or_a_reason(seed: str) -> None:
    covered = [call for sample in SAMPLES if sample.seed == seed for call in calls_in(sample.text)]
    assert Counter(covered) == Counter(wanted(seed))


def test_every_reason_is_of_a_call_that_some_page_prints() -> None:
    printed = {call for calls in CALLS.values() for call in calls.split()}
    assert set(OUT_OF_SCOPE) <= printed


@pytest.mark.parametrize("sample", LAID_OUT, ids=lambda sample: sample.id)
def test_a_text_that_is_laid_out_again_is_the_same_text(sample: Sample) -> None:
    assert isinstance(sample.how, Python)
    assert "".join(sample.how.laid_out.split()) == "".join(sample.text.split())
