"""Seconds of sound transcribed per second: windows of all files in shared calls, beside faster-whisper file by file.

    python scripts/bench/audio.py [--beams 1,5] [--files 16,6] [--rounds 2,1] [--threads 1] [--model models/fabric-whisper]

All files are sent at once; a file's latency is from then until its transcript is whole. Without --model it makes a random
model with the dimensions and the vocabulary of Whisper tiny: its answers mean nothing and run to their bound of tokens,
which is the same for all ways. All have the allocator keep what is freed, as a node does: the peers gain by it too. What it
leaves out: HTTP, gRPC, the scheduler.
"""
# minutes: 6

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

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
from node.memory.host import keep_freed_memory
from protos.types import AudioRequest, Blob, Modality, ModelId, Task, TaskId
from scripts.bench.lib.report import Row, publish
from scripts.models.audio.convert import convert
from scripts.models.audio.tokenizer import build_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SPOKEN = ROOT / "tests" / "node" / "engines" / "whisper" / "files" / "spoken.wav"
RATE_HZ = 16_000
TINY_VOCABULARY = 51_865
LONGEST_PROMPT = 4  # tokens before an answer: start, language, task, no timestamps


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
    """How one way went: seconds until each file was done."""

    waits_s: Sequence[float]

    @property
    def total_s(self) -> float:
        return max(self.waits_s)

    @property
    def p95_s(self) -> float:
        return float(np.percentile(self.waits_s, 95))


Way = Callable[[Sequence[bytes]], Run]


def engine_of(path: Path, seats: int, threads: int, beam: int) -> Way:
    """All at once."""
    spec = ModelSpec(id=ModelId("bench"), engine="whisper", modality=Modality.AUDIO, path=str(path), seats=seats)
    decoding = Decoding(beam_size=beam, logprob_threshold=-1e9, compression_ratio_threshold=1e9)
    device = DeviceSpec("cpu", 0, threads)
    engine = WhisperEngine(spec, Ears(load_model(spec, device), decoding), decoding, device.kind)
    engine.warm_up()

    def run(files: Sequence[bytes]) -> Run:
        started, waits = time.perf_counter(), list[float]()
        for index, data in enumerate(files):
            task = Task(id=TaskId(str(index)), request=AudioRequest(audio=Blob(data), language="en"))
            assert engine.admit(engine.prepare(task)), "the benchmark asked for more seats than it made"
        while engine.seated:
            events = engine.step(None).events
            waits += [time.perf_counter() - started for _, event in events if isinstance(event, Done)]
        return Run(waits)

    return run


def one_by_one(transcribe: Callable[[bytes], object]) -> Way:
    def run(files: Sequence[bytes]) -> Run:
        started, waits = time.perf_counter(), list[float]()
        for data in files:
            transcribe(data)
            waits.append(time.perf_counter() - started)
        return Run(waits)

    return run


def peers(path: Path, threads: int, beam: int, *, is_trained: bool) -> dict[str, Way]:
    """faster-whisper's two ways, asked for what the engine does: its search for speech, its bound of tokens."""
    model = WhisperModel(str(path), device="cpu", cpu_threads=threads, local_files_only=True)
    asked = {"language": "en", "beam_size": beam, "temperature": [0.0], "vad_filter": True}
    asked |= {"condition_on_previous_text": False, "without_timestamps": not is_trained}

    def bound(data: bytes) -> int:
        """That lets an answer have as many tokens as ours may: CTranslate2 halves the sum of prompt and bound."""
        return 2 * max_tokens(min(30.0, soundfile.info(io.BytesIO(data)).duration)) - LONGEST_PROMPT

    def plain(data: bytes) -> object:
        speech = {"min_silence_duration_ms": 160}
        found, _ = model.transcribe(io.BytesIO(data), vad_parameters=speech, max_new_tokens=bound(data), **asked)
        return list(found)

    def batched(data: bytes) -> object:
        pipeline = BatchedInferencePipeline(model)  # it keeps state: one per request
        found, _ = pipeline.transcribe(io.BytesIO(data), batch_size=8, max_new_tokens=bound(data), **asked)
        return list(found)

    return {"faster-whisper one by one": one_by_one(plain), "BatchedInferencePipeline per file": one_by_one(batched)}


def rows(runs: Mapping[str, Sequence[Run]], beam: int, sound_s: float) -> list[Row]:
    work, ours = f"audio, {len(runs['ours'][0].waits_s)} clips of 5 to 60 s, int8, beam {beam}", runs["ours"]
    made = []
    for peer, theirs in runs.items():
        if peer == "ours":
            continue
        rates = [[sound_s / run.total_s for run in side] for side in (ours, theirs)]
        waits = [[run.p95_s for run in side] for side in (ours, theirs)]
        at_least = (
            {"faster-whisper one by one": 1.4, "BatchedInferencePipeline per file": 1.3}[peer] if beam == 1 else None
        )
        made += [
            row(work, peer, "s of sound/s", rates, at_least=at_least),
            row(work, peer, "latency p95, s", waits, at_most=0.8 if beam == 1 else None),
        ]
    return made


def row(work: str, peer: str, measure: str, sides: Sequence[Sequence[float]], **target: float | None) -> Row:
    values = [mine / other for mine, other in zip(*sides, strict=True)]
    return Row(
        work=work, peer=peer, measure=measure, values=values, ours=median(sides[0]), theirs=median(sides[1]), **target
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=numbers, default=[16, 6], help="for each beam")
    parser.add_argument("--rounds", type=numbers, default=[2, 1], help="for each beam")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beams", type=numbers, default=[1, 5], help="1 is held to the targets, others are reported")
    parser.add_argument("--model", default="", help="the folder of a converted model; without: random")
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(options.model) if options.model else random_tiny(Path(folder)))


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def measure(options: argparse.Namespace, path: Path) -> None:
    for beam, count, rounds in zip(options.beams, options.files, options.rounds, strict=True):
        files = recordings(count)
        sound_s = sum(soundfile.info(io.BytesIO(data)).duration for data in files)
        ways = {"ours": engine_of(path, count, options.threads, beam)}
        ways |= peers(path, options.threads, beam, is_trained=bool(options.model))
        publish(
            f"audio beam {beam}",
            rows(alternated(ways, files, rounds), beam, sound_s),
            threads=options.threads,
            model=Path(options.model).name or "random tiny, int8",
            audio_s=round(sound_s),
            faster_whisper=faster_whisper.__version__,
            ctranslate2=ctranslate2.__version__,
        )


def alternated(ways: Mapping[str, Way], files: Sequence[bytes], rounds: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            runs[name].append(way(files))
            print(f"round {number + 1}, {name}: {runs[name][-1].total_s:.1f} s", file=sys.stderr)
    return runs


if __name__ == "__main__":
    main()
