"""Tiny random models, made on the spot: weights so large that attention decides every token (see the note on traps in
ARCHITECTURE.md: small ones repeat tokens whatever attention does)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from node.engine import DeviceSpec, Done, Engine, Failed, ModelSpec, Prepared
from protos.errors import FabricError
from protos.types import Modality, ModelId, Progress, Task, TaskId, TaskResult, TextDelta, TextRequest, Usage

CHARACTERS = "".join(map(chr, range(32, 127))) + "\n"
TEMPLATE = "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
CPU = DeviceSpec("cpu", 0, 1)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # with more, OpenMP's barriers collapse on a busy machine


def character_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token for each printable ASCII character, and <end>."""
    vocabulary = {"<end>": 0} | {character: i + 1 for i, character in enumerate(CHARACTERS)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    tokenizer.chat_template = template
    return tokenizer


def llama_config(**changes: Any) -> PretrainedConfig:  # Any: whatever the configuration takes
    from transformers import LlamaConfig

    return LlamaConfig(**{**small(), "num_key_value_heads": 2, **changes})


def small() -> dict[str, Any]:  # Any: keyword arguments of configurations
    return {
        "vocab_size": len(CHARACTERS) + 1,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 8,
        "max_position_embeddings": 96,
        "initializer_range": 0.25,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def build(config: PretrainedConfig) -> Any:  # a model of transformers
    torch.manual_seed(7)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def save(folder: Path, config: PretrainedConfig, template: str | None = TEMPLATE) -> str:
    build(config).save_pretrained(folder)
    character_tokenizer(template).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def llama_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("llama"), llama_config())


def spec_of(path: str, **changes: Any) -> ModelSpec:  # Any: fields of ModelSpec
    return ModelSpec(
        **{"id": ModelId("tiny"), "engine": "text", "modality": Modality.TEXT, "path": path, "seats": 4, **changes}
    )


class Desk:
    """Drives one engine by hand, as the device loop would, and keeps what each task got."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.deltas: dict[str, list[str]] = {}
        self.done: dict[str, TaskResult] = {}
        self.usage: dict[str, Usage] = {}
        self.failed: dict[str, FabricError] = {}
        self.progress: dict[str, list[float]] = {}
        self.sizes: list[int] = []

    def prepare(self, name: str, request: Any) -> Prepared:  # Any: one of the request types
        return self.engine.prepare(Task(id=TaskId(name), request=request))

    def admit(self, name: str, request: Any) -> bool:  # Any: one of the request types
        return self.engine.admit(self.prepare(name, request))

    def step(self, quantum_s: float | None = None) -> dict[str, int]:
        step = self.engine.step(quantum_s)
        self.sizes.append(sum(step.work.values()))
        for task_id, event in step.events:
            match event:
                case TextDelta(text):
                    self.deltas.setdefault(task_id, []).append(text)
                case Done(raw, usage):
                    self.done[task_id] = self.engine.finish(raw)
                    self.usage[task_id] = usage
                case Progress(fraction):
                    self.progress.setdefault(task_id, []).append(fraction)
                case Failed(error):
                    self.failed[task_id] = error
        return dict(step.work)

    def run(self) -> None:
        while self.engine.seated:
            self.step()

    def alone(self, name: str, request: Any) -> TaskResult:  # Any: one of the request types
        assert self.admit(name, request)
        self.run()
        return self.done[name]


@pytest.fixture(scope="session")
def _llama_engine(llama_path: str) -> Engine:
    from node.engines.text import load

    return load(spec_of(llama_path, step_tokens=16), CPU)


@pytest.fixture
def desk(_llama_engine: Engine) -> Iterator[Desk]:
    """A tiny Llama with 4 seats, 96 tokens of context and 16 tokens a step."""
    desk = Desk(_llama_engine)
    yield desk
    assert desk.engine.seated == 0, "the test left a task seated"


@pytest.fixture(scope="session")
def desk_type() -> type[Desk]:
    return Desk


@pytest.fixture(name="greedy", scope="session")
def _greedy() -> Callable[..., TextRequest]:
    return greedy


@pytest.fixture(name="spec_of", scope="session")
def _spec_of() -> Callable[..., ModelSpec]:
    return spec_of


@pytest.fixture(scope="session")
def cpu() -> DeviceSpec:
    return CPU


@pytest.fixture(name="small", scope="session")
def _small() -> dict[str, Any]:  # Any: keyword arguments of configurations
    return small()


@pytest.fixture(name="build", scope="session")
def _build() -> Callable[[PretrainedConfig], Any]:  # Any: a model of transformers
    return build


def greedy(prompt: str, max_tokens: int = 12, **changes: Any) -> TextRequest:  # Any: fields of TextRequest
    return TextRequest(prompt=prompt, temperature=0.0, max_tokens=max_tokens, **changes)
