"""The loaded Whisper: the few calls of CTranslate2 that the engine makes, through faster-whisper's parts.

Not about which windows go into a call (batch.py) nor about what an answer is worth (decoding.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from ctranslate2 import Device, StorageView
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES, Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens, merge_punctuations
from numpy.typing import NDArray

from node.engine import DeviceSpec, ModelSpec
from node.engines.whisper.batch import Key
from node.engines.whisper.decoding import Attempt, Decoding, compression_ratio
from node.engines.whisper.prepare import MEL_FRAMES, Languages
from protos.errors import DoesNotFit, LoadFailed

FILES: Final = ("model.bin", "config.json", "tokenizer.json", "preprocessor_config.json")
COMPUTE_TYPES: Final = {"auto": "default", "float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}
POSITIONS: Final = 448  # of the decoder
PREPENDED: Final = "\"'“¿([{-"  # Source: the defaults of faster_whisper.WhisperModel.transcribe
APPENDED: Final = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001  # the punctuation of other scripts


def load_model(spec: ModelSpec, device: DeviceSpec) -> WhisperModel:
    """Raises LoadFailed with what is missing or wrong, DoesNotFit where the device has no room."""
    missing = [name for name in FILES if not Path(spec.path, name).is_file()]
    if missing:  # faster-whisper would ask a server for them
        raise LoadFailed(f"{spec.id}: {spec.path} lacks {', '.join(missing)}: convert the model with CTranslate2")
    try:
        return WhisperModel(
            spec.path,
            device=device.kind,
            device_index=device.index,
            compute_type=COMPUTE_TYPES[spec.dtype],
            cpu_threads=device.threads,
            num_workers=1,
            local_files_only=True,
        )
    except (RuntimeError, ValueError) as exc:
        if "out of memory" in str(exc):
            raise DoesNotFit(f"{spec.id} does not fit {device.torch_name}: {exc}") from exc
        raise LoadFailed(f"{spec.id} cannot be loaded from {spec.path} as {spec.dtype}: {exc}") from exc


class Ears:
    """What the engine asks of the model. One thread at a time."""

    def __init__(self, model: WhisperModel, decoding: Decoding) -> None:
        self.languages = languages_of(model)
        self.hf_tokenizer = model.hf_tokenizer
        self.extractor = model.feature_extractor
        self.compute_type: str = model.model.compute_type
        self._model = model
        self._decoding = decoding
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}
        self._plain = self.tokenizer("en", "transcribe")
        self._suppressed = list(get_suppressed_tokens(self._plain, [-1]))
        self.first_timestamp: int = self._plain.timestamp_begin
        self.end_of_text: int = self._plain.eot

    def tokenizer(self, language: str, task: str) -> Tokenizer:
        """The one whose start sequence asks for that."""
        if (language, task) not in self._tokenizers:
            made = Tokenizer(self.hf_tokenizer, self.languages.is_multilingual, task=task, language=language)
            self._tokenizers[language, task] = made
        return self._tokenizers[language, task]

    def text(self, tokens: Sequence[int]) -> str:
        return str(self._plain.decode(list(tokens)))

    def encode(self, mels: Sequence[NDArray[np.float32]]) -> StorageView:
        """mels: (mels, frames) each; filled with zeros to 30 s, as faster-whisper does."""
        batch = np.zeros((len(mels), mels[0].shape[0], MEL_FRAMES), np.float32)
        for row, mel in zip(batch, mels, strict=True):
            row[:, : mel.shape[1]] = mel
        return self._model.encode(batch)

    def detect(self, encoded: StorageView) -> list[str]:
        """The likeliest language of each window."""
        return [found[0][0][2:-2] for found in self._model.model.detect_language(encoded)]

    def prompt(self, previous: Sequence[int], language: str, task: str) -> list[int]:
        """The tokens before the answer: what was said before, then what is asked for. Times are always asked for."""
        return list(self._model.get_prompt(self.tokenizer(language, task), list(previous)))

    def generate(
        self, encoded: StorageView, prompts: Sequence[Sequence[int]], key: Key, forbidden: Sequence[int] = ()
    ) -> list[Attempt]:
        longest = max(map(len, prompts))
        answers = self._model.model.generate(
            encoded,
            [list(prompt) for prompt in prompts],
            # CTranslate2 halves it, as it stands for prompt and answer together
            max_length=min(POSITIONS, max(2 * key.max_tokens, key.max_tokens + longest - 1)),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=[*self._suppressed, *forbidden],
            max_initial_timestamp_index=round(self._decoding.max_initial_timestamp_s / 0.02),
            **self._search(key.temperature),
        )
        return [self._attempt(answer) for answer in answers]

    def _search(self, temperature: float) -> Mapping[str, Any]:  # Any: the arguments differ in type
        if temperature == 0:
            return {"beam_size": self._decoding.beam_size}
        drawn = {"num_hypotheses": self._decoding.best_of, "sampling_topk": 0, "sampling_temperature": temperature}
        return {"beam_size": 1, **drawn}

    def _attempt(self, answer: Any) -> Attempt:  # Any: ctranslate2 has no types
        tokens = answer.sequences_ids[0]
        logprob = answer.scores[0] * len(tokens) / (len(tokens) + 1)  # the score is a mean without <|endoftext|>
        return Attempt(tokens, logprob, answer.no_speech_prob, compression_ratio(self.text(tokens).strip()))

    def align(
        self, encoded: StorageView, texts: Sequence[Sequence[int]], frames: Sequence[int], language: str, task: str
    ) -> list[list[dict[str, Any]]]:  # Any: see segments.words_of
        """When each word of each window was said; all of one language and task. `frames` hold sound in each window."""
        tokenizer = self.tokenizer(language, task)
        found = self._model.find_alignment(tokenizer, [list(tokens) for tokens in texts], encoded, list(frames))
        for words in found:
            merge_punctuations(words, PREPENDED, APPENDED)
        return list(found)

    def unload(self) -> None:
        self._model.model.unload_model()


@contextmanager
def memory_errors() -> Iterator[None]:
    """CTranslate2 has no error of its own for a device that is full."""
    try:
        yield
    except RuntimeError as exc:
        if "out of memory" in str(exc):
            raise MemoryError(str(exc)) from exc
        raise


def languages_of(model: WhisperModel) -> Languages:
    if not model.model.is_multilingual:
        return Languages(frozenset({"en"}), is_multilingual=False)
    known = (code for code in _LANGUAGE_CODES if model.hf_tokenizer.token_to_id(f"<|{code}|>") is not None)
    return Languages(frozenset(known), is_multilingual=True)


def rows_of(encoded: StorageView, rows: Sequence[int]) -> StorageView:
    """Some windows of an encoded batch, on the host; the whole as it is."""
    if list(rows) == list(range(encoded.shape[0])):
        return encoded
    host = np.array(encoded if encoded.device == "cpu" else encoded.to_device(Device.cpu))
    return StorageView.from_array(np.ascontiguousarray(host[list(rows)]))
