"""Seconds of sound transcribed per second: windows of all files in shared calls, against faster-whisper file by file.

    python scripts/bench/audio.py [--files 16] [--threads 1] [--beam 5] [--model models/fabric-whisper]

Without --model it makes a random model with the dimensions and the vocabulary of Whisper tiny: its answers mean nothing
and run to their bound of tokens, which is the same for all ways. What it leaves out: HTTP, gRPC, the scheduler.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import ctranslate2
import faster_whisper
import numpy as np
import soundfile
import torch
from faster_whisper import BatchedInferencePipeline, WhisperModel
from transformers import WhisperConfig, WhisperForConditionalGeneration

from node.engine import DeviceSpec, Done, ModelSpec
from node.engines.whisper.decoding import Decoding, max_tokens
from node.engines.whisper.engine import WhisperEngine
from node.engines.whisper.model import Ears, load_model
from protos.types import AudioRequest, Blob, Modality, ModelId, Task, TaskId
from scripts.bench.lib.report import report
from scripts.models.audio.convert import convert
from scripts.models.audio.tokenizer import build_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SPOKEN = ROOT / "tests" / "node" / "engines" / "whisper" / "files" / "spoken.wav"
RATE_HZ = 16_000
TINY_VOCABULARY = 51_865


def recordings(count: int) -> list[bytes]:
    """Speech of 5 to 60 s, the same sentence again and again with a pause of half a second."""
    said, rate_hz = soundfile.read(SPOKEN, dtype="float32")
    sentence = np.concatenate([np.repeat(said, RATE_HZ // rate_hz), np.zeros(RATE_HZ // 2, np.float32)])
    made = []
    for seconds in np.linspace(5, 60, count):
        samples = np.resize(sentence, int(seconds * RATE_HZ))
        out = io.BytesIO()
        soundfile.write(out, samples, RATE_HZ, format="FLAC")
        made.append(out.getvalue())
    order = np.random.default_rng(0).permutation(count)
    return [made[index] for index in order]


def random_tiny(folder: Path) -> Path:
    """Source of the dimensions: openai/whisper-tiny."""
    tokenizer = build_tokenizer(fillers=TINY_VOCABULARY - 1839)
    torch.manual_seed(0)
    end = tokenizer.token_to_id("<|endoftext|>")
    config = WhisperConfig(  # its other defaults are those of Whisper tiny
        vocab_size=tokenizer.get_vocab_size(),
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=tokenizer.token_to_id("<|startoftranscript|>"),
        init_std=0.1,
    )
    convert(WhisperForConditionalGeneration(config).eval(), tokenizer, folder, quantization="int8")
    return folder


@dataclass(frozen=True, slots=True)
class Run:
    """How one way went. On a machine that others use too, compare the CPU seconds."""

    waits_s: list[float]  # until each file was done, all sent at once
    cpu_s: float


class Clock:
    def __init__(self) -> None:
        self._wall, self._cpu, self._waits = time.perf_counter(), time.process_time(), list[float]()

    def done(self) -> None:
        self._waits.append(time.perf_counter() - self._wall)

    def run(self) -> Run:
        return Run(self._waits, time.process_time() - self._cpu)


def by_engine(engine: WhisperEngine, files: Sequence[bytes]) -> Run:
    """All at once."""
    clock = Clock()
    for index, data in enumerate(files):
        task = Task(id=TaskId(str(index)), request=AudioRequest(audio=Blob(data), language="en"))
        assert engine.admit(engine.prepare(task)), "the benchmark asked for more seats than it made"
    while engine.seated:
        for _, event in engine.step(None).events:
            if isinstance(event, Done):
                clock.done()
    return clock.run()


def one_by_one(transcribe: Callable[[bytes], object], files: Sequence[bytes]) -> Run:
    clock = Clock()
    for data in files:
        transcribe(data)
        clock.done()
    return clock.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--model", default="", help="the folder of a converted model; without: random")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(options.model) if options.model else random_tiny(Path(folder)))


def measure(options: argparse.Namespace, path: Path) -> None:
    spec = ModelSpec(
        id=ModelId("bench"), engine="whisper", modality=Modality.AUDIO, path=str(path), seats=options.files
    )
    decoding = Decoding(beam_size=options.beam, logprob_threshold=-1e9, compression_ratio_threshold=1e9)
    device = DeviceSpec("cpu", 0, options.threads)
    engine = WhisperEngine(spec, Ears(load_model(spec, device), decoding), decoding, device.kind)
    engine.warm_up()
    model = WhisperModel(str(path), device="cpu", cpu_threads=options.threads, local_files_only=True)
    files = recordings(options.files)
    seconds = sum(soundfile.info(io.BytesIO(data)).duration for data in files)
    asked = {"language": "en", "beam_size": options.beam, "temperature": [0.0], "vad_filter": True}
    asked |= {"condition_on_previous_text": False, "without_timestamps": not options.model}

    def bound(data: bytes) -> int:
        return max_tokens(min(30.0, soundfile.info(io.BytesIO(data)).duration))

    def plain(data: bytes) -> object:
        speech = {"min_silence_duration_ms": 160}
        found, _ = model.transcribe(io.BytesIO(data), vad_parameters=speech, max_new_tokens=bound(data), **asked)
        return list(found)

    def batched(data: bytes) -> object:
        pipeline = BatchedInferencePipeline(model)  # it keeps state: one per request
        found, _ = pipeline.transcribe(io.BytesIO(data), batch_size=8, max_new_tokens=bound(data), **asked)
        return list(found)

    plain(files[0])
    done = {
        f"engine, {options.files} files at once": by_engine(engine, files),
        "BatchedInferencePipeline, file by file": one_by_one(batched, files),
        "faster-whisper, file by file": one_by_one(plain, files),
    }
    together, pipeline, single = done.values()
    report(
        "audio",
        {name: seconds / max(run.waits_s) for name, run in done.items()},
        "s of sound",
        {
            "CPU seconds, faster-whisper against at once": single.cpu_s / together.cpu_s,
            "CPU seconds, BatchedInferencePipeline against at once": pipeline.cpu_s / together.cpu_s,
            "mean wait, faster-whisper against at once": mean(single.waits_s) / mean(together.waits_s),
        },
        **{**vars(options), "model": Path(options.model).name or "random tiny, int8", "audio_s": round(seconds)},
        faster_whisper=faster_whisper.__version__,
        ctranslate2=ctranslate2.__version__,
    )


if __name__ == "__main__":
    main()
