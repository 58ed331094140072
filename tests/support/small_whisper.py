"""A tiny random Whisper that knows three languages, made on the spot; and a desk that drives the speech engine by hand.

Its answers mean nothing, and are always the same: what is tested with it is that company changes nothing.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import WhisperConfig, WhisperForConditionalGeneration

from node.engine import DeviceSpec, Done, Engine, Failed, ModelSpec, StepEvent
from protos.types import AudioRequest, AudioResult, Blob, Modality, ModelId, Segment, SegmentDelta, Task, TaskId
from scripts.models.audio.convert import convert
from scripts.models.audio.tokenizer import build_tokenizer

FILES = Path(__file__).parents[1] / "node" / "engines" / "whisper" / "files"
CPU = DeviceSpec("cpu", 0, 1)
RATE_HZ = 16_000
SURENESS, BREVITY = 4.0, 10.0  # found by trying: some 7 tokens at a mean log probability of -0.5


def spec_of(path: Path, **changes: object) -> ModelSpec:
    values = {"id": ModelId("ears"), "engine": "whisper", "modality": Modality.AUDIO, "path": str(path), "seats": 4}
    return ModelSpec(**{**values, **changes})  # type: ignore[arg-type]  # the values differ in type


def save_multilingual(folder: Path) -> Path:
    """A model that talks to its bound of tokens, and doubts it."""
    tokenizer = build_tokenizer(("en", "de", "fr"))
    return _save(_random_model(tokenizer), tokenizer, folder)


def save_terse(folder: Path) -> Path:
    """One that says little and is sure of it: what it says is taken as a good model's words would be."""
    tokenizer = build_tokenizer(("en", "de", "fr"))
    model = _random_model(tokenizer)
    decoder, end = model.model.decoder, tokenizer.token_to_id("<|endoftext|>")
    with torch.no_grad():
        decoder.embed_tokens.weight[end] = 0.3 * torch.randn(32)  # transformers makes a padding token's zero
        decoder.layer_norm.weight *= SURENESS
        decoder.layer_norm.bias += BREVITY * decoder.embed_tokens.weight[end]
    return _save(model, tokenizer, folder)


def _random_model(tokenizer: Tokenizer) -> WhisperForConditionalGeneration:
    torch.manual_seed(3)
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        init_std=0.3,
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=tokenizer.token_to_id("<|endoftext|>"),
        decoder_start_token_id=tokenizer.token_to_id("<|startoftranscript|>"),
    )
    return WhisperForConditionalGeneration(config).eval()


def _save(model: WhisperForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> Path:
    """CTranslate2 takes a vocabulary with an empty token for that of a multilingual model."""
    convert(model, tokenizer, folder)
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    vocabulary[0] = ""  # in place of "!"
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    return folder


def file_of(name: str) -> AudioRequest:
    return AudioRequest(audio=Blob((FILES / name).read_bytes()))


def samples_of_file(name: str = "spoken.wav") -> NDArray[np.float32]:
    """The spoken file at 16 kHz (it is kept at 8 kHz)."""
    samples, _ = soundfile.read(FILES / name, dtype="float32")
    return np.repeat(samples, 2)


def flac(samples: NDArray[np.float32]) -> Blob:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="FLAC")
    return Blob(out.getvalue(), "audio/flac")


def noise(seconds: float, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, int(seconds * RATE_HZ)).astype(np.float32)


class Desk:
    """An engine and what came of its tasks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.events: dict[str, list[StepEvent]] = {}

    def seat(self, name: str, request: AudioRequest) -> bool:
        return self.engine.admit(self.engine.prepare(Task(id=TaskId(name), request=request)))

    def step(self, quantum_s: float | None = None) -> None:
        for task_id, event in self.engine.step(quantum_s).events:
            self.events.setdefault(task_id, []).append(event)

    def run(self, quantum_s: float | None = None) -> None:
        while self.engine.seated:
            self.step(quantum_s)

    def result(self, name: str) -> AudioResult:
        """Of a task that is done."""
        last = self.events[name][-1]
        assert isinstance(last, Done), f"{name} is not done"
        result = self.engine.finish(last.raw)
        assert isinstance(result, AudioResult)
        return result

    def alone(self, request: AudioRequest) -> AudioResult:
        assert self.seat("alone", request)
        self.run()
        return self.result("alone")

    def segments(self, name: str) -> Sequence[Segment]:
        return [event.segment for event in self.events.get(name, ()) if isinstance(event, SegmentDelta)]

    def ended(self, name: str) -> bool:
        return any(isinstance(event, Done | Failed) for event in self.events.get(name, ()))
