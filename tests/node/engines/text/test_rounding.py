"""A model in a narrow type is held to what the type costs the model itself; a true defect is still refused."""

import math

import pytest
import torch
from tiny import build, llama_config

from node.engines.text.model import TextModel, prove
from node.engines.text.rounding import Verdict, in_float32, logits_error, usual, verdict
from node.engines.text.selftest import cached_logits, eager_logits, sequences
from protos.errors import LoadFailed

CPU = torch.device("cpu")


def rough_model() -> torch.nn.Module:
    """In bfloat16, with weights so large that it loses more than is usual."""
    return build(llama_config(num_hidden_layers=8, initializer_range=0.5)).bfloat16()


def difference(model: TextModel) -> float:
    cases = sequences(model.vocabulary)
    found = cached_logits(model, cases)
    model.module.set_attn_implementation("eager")
    return logits_error(found, eager_logits(model, cases))


@torch.inference_mode()
def test_a_model_that_loses_much_in_its_type_is_taken_all_the_same() -> None:
    model = prove("rough", rough_model(), CPU)
    assert difference(model) > usual(torch.bfloat16), "it would be taken without asking"
    assert model.dtype == torch.bfloat16


def test_a_defect_in_such_a_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that scales its scores in a way that it does not tell."""
    from transformers.models.llama import modeling_llama

    honest = modeling_llama.eager_attention_forward
    monkeypatch.setattr(
        modeling_llama, "eager_attention_forward", lambda *args, **kw: honest(*args, **{**kw, "scaling": 0.1})
    )
    with pytest.raises(LoadFailed, match=r"its logits differ from its own attention's by [\d.]+ of their size"):
        prove("scaled", rough_model(), CPU)


def test_weights_are_to_the_bit_what_they_were() -> None:
    module = rough_model()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    types = [buffer.dtype for buffer in module.buffers()]
    with in_float32(module):
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
    assert [buffer.dtype for buffer in module.buffers()] == types


def never_asked() -> torch.Tensor:
    raise AssertionError("the model was asked")


def test_the_model_is_asked_only_beyond_what_is_usual() -> None:
    expected = torch.tensor([[10.0, 0.0]])
    assert verdict(expected + 0.4, expected, torch.bfloat16, never_asked).is_rounding
    assert not verdict(expected + 0.4, expected, torch.float32, never_asked).is_rounding
    assert not verdict(expected * math.nan, expected, torch.bfloat16, never_asked).is_rounding


@pytest.mark.parametrize(
    ("found", "own", "expected"),
    [
        (1.0, 0.6, Verdict(pytest.approx(0.1), pytest.approx(0.12))),
        (1.0, 0.1, Verdict(pytest.approx(0.1), 0.05)),
        (9.0, 5.0, Verdict(pytest.approx(0.9), 0.3)),
    ],
    ids=["as much as the type costs", "more than the type costs", "a type that costs everything proves nothing"],
)
def test_the_bound_is_twice_what_the_type_costs(found: float, own: float, expected: Verdict) -> None:
    truth = torch.tensor([[10.0, 0.0]])
    assert verdict(truth - found, truth - torch.tensor([[0.0, own]]), torch.bfloat16, lambda: truth) == expected
