"""Tokens per second of the text engine: 32 chats at once, the same one by one, and transformers' generate.

    python scripts/bench/text.py [--model models/fabric-chat] [--chats 32] [--threads 1] [--max-tokens 48]

Checks first that all ways give the same texts. What it leaves out: HTTP, gRPC, the scheduler.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from node.engine import DeviceSpec, Done, Engine, ModelSpec
from node.engines.text import load
from protos.types import Modality, ModelId, Task, TaskId, TextRequest
from scripts.bench.lib.report import report

ROOT = Path(__file__).resolve().parents[2]
COLOURS = ("red", "blue", "green", "yellow", "orange", "white", "black", "brown")
SHAPES = ("circle", "triangle", "square", "star")


def questions(count: int) -> list[str]:
    stories = [f"Tell me a short story about a {colour} {shape}." for colour in COLOURS for shape in SHAPES]
    return [stories[i % len(stories)] for i in range(count)]


def by_engine(engine: Engine, requests: Sequence[TextRequest]) -> tuple[list[str], int, float]:
    """All at once: texts, tokens, seconds."""
    started = time.perf_counter()
    prepared = [engine.prepare(Task(id=TaskId(str(i)), request=request)) for i, request in enumerate(requests)]
    for one in prepared:
        assert engine.admit(one), "the benchmark asked for more seats than it made"
    texts, tokens = [""] * len(requests), 0
    while engine.seated:
        for task_id, event in engine.step(None).events:
            if isinstance(event, Done):
                texts[int(task_id)] = engine.finish(event.raw).text
                tokens += event.usage.output_tokens
    return texts, tokens, time.perf_counter() - started


def by_generate(path: str, prompts: Sequence[str], max_tokens: int, batch: int) -> tuple[list[str], float]:
    """transformers alone, `batch` prompts at a time, padded: texts, seconds."""
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, local_files_only=True).eval()
    texts: list[str] = []
    started = time.perf_counter()
    for at in range(0, len(prompts), batch):
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts[at : at + batch]]
        rendered = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(
            rendered, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        )
        with torch.inference_mode():
            output = model.generate(**inputs, do_sample=False, max_new_tokens=max_tokens)
        texts += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "models" / "fabric-chat"))
    parser.add_argument("--chats", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=48)
    options = parser.parse_args()
    spec = ModelSpec(
        id=ModelId("bench"), engine="text", modality=Modality.TEXT, path=options.model, seats=options.chats
    )
    engine = load(spec, DeviceSpec("cpu", 0, options.threads))
    engine.warm_up()
    prompts = questions(options.chats)
    requests = [TextRequest(prompt=prompt, temperature=0.0, max_tokens=options.max_tokens) for prompt in prompts]

    together, tokens, together_s = by_engine(engine, requests)
    alone = [by_engine(engine, [request]) for request in requests]
    generated, generated_s = by_generate(options.model, prompts, options.max_tokens, batch=1)
    padded, padded_s = by_generate(options.model, prompts, options.max_tokens, batch=options.chats)
    assert together == [texts[0] for texts, _, _ in alone] == generated == padded, "the texts differ"

    alone_s = sum(seconds for _, _, seconds in alone)
    report(
        "text",
        {
            f"engine, {options.chats} at once": tokens / together_s,
            "engine, one by one": tokens / alone_s,
            "generate, one by one": tokens / generated_s,
            f"generate, static batch of {options.chats}": tokens / padded_s,
        },
        "tokens",
        {
            "at once against one by one": alone_s / together_s,
            "at once against generate one by one": generated_s / together_s,
            "at once against generate in a static batch": padded_s / together_s,
        },
        **{**vars(options), "model": Path(options.model).name, "texts_equal": True},
    )


if __name__ == "__main__":
    main()
