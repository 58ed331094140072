"""The text engine's way on a GPU, proven there: `scripts/test --gpu -s`. `scripts/test --gpu cpu -s` rehearses it without one.

Says the largest difference of logits from the model's own attention, and tokens per second beside transformers' generate.
"""

import random
import time
from pathlib import Path

import pytest
import torch
import transformers
from host_recorder import HostRecorder
from reference_varlen import reference_varlen
from tiny import build, spec_of

from node.engine import DeviceSpec
from node.engines.text.attention import Chunk, packed
from node.engines.text.graphs import CudaRecorder, Graphs, Recorder
from node.engines.text.load import load
from node.engines.text.model import TextModel, load_model, prove
from node.engines.text.path import facts_of, path_of
from node.engines.text.selftest import eager_logits
from node.engines.text.upload import upload
from scripts.bench.lib.text_models import END, SHAPES, save
from scripts.bench.lib.text_ways import Chat, Ours

pytestmark = pytest.mark.gpu

CONTEXT = 512
SEQUENCES = (330, 77, 9, 140, 64)  # tokens; the last 20 or fewer of each by decoding
SHAPE = {
    "vocab_size": 2048, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8,
    "head_dim": 64, "max_position_embeddings": CONTEXT, "initializer_range": 0.05, "tie_word_embeddings": False,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
FAMILIES = {
    "heads in groups": ("LlamaConfig", {"num_key_value_heads": 2}),
    "heads each their own": ("LlamaConfig", {"num_key_value_heads": 8}),
    "heads of 128, normed": ("Qwen3Config", {"num_key_value_heads": 4, "head_dim": 128}),
    "a window of 50": ("MistralConfig", {"num_key_value_heads": 2, "sliding_window": 50}),
}


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> DeviceSpec:
    kind: str = pytestconfig.getoption("--gpu")
    assert kind == "cpu" or torch.cuda.is_available(), "torch finds no CUDA device: `--gpu cpu` rehearses without one"
    torch.set_num_threads(1)
    return DeviceSpec(kind, 0, 1)


def loaded(family: str, folder: Path, device: DeviceSpec) -> tuple[TextModel, Recorder]:
    name, changes = FAMILIES[family]
    module = build(getattr(transformers, name)(**{**SHAPE, **changes}))
    if device.kind == "cpu":
        return prove(family, module, torch.device("cpu"), reference_varlen), HostRecorder()
    module.save_pretrained(folder)
    model = load_model(spec_of(str(folder), dtype="bfloat16"), device)
    return model, CudaRecorder(model.device)


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_logits_are_those_of_the_models_own_attention(family: str, tmp_path: Path, device: DeviceSpec) -> None:
    model, recorder = loaded(family, tmp_path, device)
    path = path_of(facts_of(model.device, model.dtype, model.layers))
    print(f"\n{family}, {model.dtype}: {path}")
    assert model.attend is not None, "the kernel was refused at load: the log says why"
    choice = random.Random(family)
    cases = [[choice.randrange(model.vocabulary) for _ in range(length)] for length in SEQUENCES]
    found = stepwise(model, recorder, cases)
    interface = model.module.config._attn_implementation
    model.module.set_attn_implementation("eager")
    expected = eager_logits(model, cases)
    model.module.set_attn_implementation(interface)
    error = (found - expected).abs().max().item() / expected.abs().max().item()
    print(f"{family}: logits differ by {error:.2g} of their size, graphs hold {recorder.bytes >> 20} MiB")
    assert error <= model.rounding


def stepwise(model: TextModel, recorder: Recorder, cases: list[list[int]]) -> torch.Tensor:
    """Logits of all tokens, by chunks of 128 and then by recorded steps of those that are left."""
    pool = model.new_pool(8, CONTEXT)
    graphs = Graphs(model, pool, recorder, [1, 2, 4, 8])
    found: list[list[torch.Tensor]] = [[] for _ in cases]
    done = [0] * len(cases)
    while any(at < len(case) for at, case in zip(done, cases, strict=True)):
        counts = [min(128, left - 20) if (left := len(case) - at) > 20 else min(1, left)
                  for at, case in zip(done, cases, strict=True)]  # fmt: skip
        chunks = [Chunk(slot, done[slot], count) for slot, count in enumerate(counts) if count]
        chunks = [chunks[i] for i in packed(chunks)]
        ids = [token for c in chunks for token in cases[c.slot][c.start : c.start + c.count]]
        logits = graphs.run(upload(ids, torch.long, model.device), chunks, pool, range(len(ids))).clone()
        for chunk, part in zip(chunks, logits.split([c.count for c in chunks]), strict=True):
            found[chunk.slot].append(part)
            done[chunk.slot] += chunk.count
    return torch.cat([torch.cat(parts) for parts in found])


def test_the_engine_takes_the_path_that_it_states(tmp_path: Path, device: DeviceSpec) -> None:
    engine = load(spec_of(str(save(tmp_path, "tiny")), dtype="bfloat16", seats=8), device)
    engine.warm_up()
    is_gpu = device.kind == "cuda"
    assert (engine._model.attend is not None) == (engine._compute._graphs is not None) == engine._is_ahead == is_gpu


@pytest.mark.parametrize("size", ["20M", "130M"])
@pytest.mark.timeout(600)
def test_tokens_per_second_beside_transformers(size: str, tmp_path: Path, device: DeviceSpec) -> None:
    """Printed, not judged; a rehearsal only passes through it."""
    few = device.kind == "cpu"
    size = "tiny" if few else size
    answer = 16 if few else 128
    folder = save(tmp_path, size)
    choice = random.Random(1)
    chats = [
        Chat([choice.randrange(END + 1, SHAPES[size].vocabulary) for _ in range(64)], answer)
        for _ in range(2 if few else 32)
    ]
    dtype = torch.float32 if few else torch.bfloat16
    ours = Ours(folder, len(chats), 1, kind=device.kind, dtype=str(dtype).removeprefix("torch."))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device.torch_name)
    for name, asked in (("alone", chats[:1]), (f"{len(chats)} at once", chats)):
        rates = [(ours.run(asked).rate, generated(model, asked)) for _ in range(1 if few else 4)][-3:]
        mine, theirs = (sorted(side)[len(side) // 2] for side in zip(*rates, strict=True))
        print(f"\n{size}, {dtype}, {name}: {mine:.0f} tokens/s, generate {theirs:.0f}: {mine / theirs:.2f} x")


def generated(model: transformers.PreTrainedModel, chats: list[Chat]) -> float:
    """Tokens per second of one batch, all prompts of one length."""
    ids = torch.tensor([chat.prompt for chat in chats], device=model.device)
    started = time.perf_counter()
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False,
        max_new_tokens=chats[0].max_tokens, min_new_tokens=chats[0].max_tokens,
    )  # fmt: skip
    count = output[:, ids.shape[1] :].cpu().numel()
    return count / (time.perf_counter() - started)
