from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from trainers.tasks.base import EMBEDDED, Demonstration, Piece
from trainers.tasks.chain_sums import ChainSumsConfig
from trainers.tasks.char_tokenizer import char_tokenizer
from trainers.tasks.tiny_llama import ModelShape
from trainers.warmstart import WarmstartConfig, _batches, _rows, run

ROOT = Path(__file__).resolve().parents[2]
SHAPE = ModelShape(hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=16)


def _config(output: Path) -> WarmstartConfig:
    sizes = ChainSumsConfig(num_terms=3, heldout_size=8)
    return WarmstartConfig(
        output=str(output), chain_sums=sizes, model=SHAPE, steps=20, batch_size=8, warmup_steps=5
    )


def _ignore(step: int, loss: float) -> None:
    """Progress that nobody watches."""


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first = run(_config(tmp_path / "a"), on_progress=_ignore)
    torch.rand(1)  # moves the random state outside
    second = run(_config(tmp_path / "b"), on_progress=_ignore)
    run(replace(_config(tmp_path / "c"), seed=1), on_progress=_ignore)
    a, b, c = (_weights(tmp_path / name) for name in "abc")
    assert first == second
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["lm_head.weight"], c["lm_head.weight"])


def test_the_folder_holds_model_tokenizer_card_and_generation_settings(tmp_path: Path) -> None:
    run(_config(tmp_path), on_progress=_ignore)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    settings = GenerationConfig.from_pretrained(tmp_path)
    assert tokenizer.decode(tokenizer(r"\boxed{1}")["input_ids"]) == r"\boxed{1}"
    assert (settings.eos_token_id, settings.pad_token_id) == (2, 0)
    assert "| accuracy, greedy |" in (tmp_path / "README.md").read_text()


def test_progress_is_told_step_by_step_and_the_loss_falls(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    run(_config(tmp_path), on_progress=lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == list(range(1, 21))
    assert seen[-1][1] < seen[0][1] - 0.1


def test_random_state_and_threads_of_torch_are_put_back(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    run(replace(_config(tmp_path), num_threads=threads + 1), on_progress=_ignore)
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads


def test_the_loss_leaves_out_prompt_and_padding() -> None:
    tokenizer = char_tokenizer()
    long = Demonstration("10+01=", (Piece("10+01=11;"),))
    short = Demonstration("20-02=", (Piece("18"),))
    rows = _rows([long, short], tokenizer)
    kept = [
        ids[labels != -100] for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True)
    ]
    assert [tokenizer.decode(ids) for ids in kept] == ["10+01=11;<eos>", "18<eos>"]
    assert tokenizer.decode(rows["input_ids"][1]) == "20-02=18<eos>" + 7 * "<pad>"


def test_the_loss_leaves_out_observations() -> None:
    tokenizer = char_tokenizer(("<look>", "</look>"))
    pieces = (Piece("<look>a</look>"), Piece("\nred\n", is_written=False), Piece("red"))
    rows = _rows([Demonstration("a?", pieces)], tokenizer)
    kept = rows["input_ids"][0][rows["labels"][0] != -100]
    assert tokenizer.decode(kept) == "<look>a</look>red<eos>"
    assert tokenizer.decode(rows["input_ids"][0]) == "a?<look>a</look>\nred\nred<eos>"


def test_the_mix_starts_after_its_fraction_of_the_steps(tmp_path: Path) -> None:
    config = replace(_config(tmp_path), mix={"direct_prob": 1.0}, mix_from=0.5)
    has_steps = [{";" in one.pieces[0].text for one in batch} for batch in _batches(config)]
    assert has_steps == [{True}] * 10 + [{False}] * 10


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"steps": 0}, "steps=0"),
        ({"mix_from": 1.2}, r"mix_from=1\.2"),
        ({"task": "chain_sum"}, "task='chain_sum' is unknown; use one of chain_sums"),
        ({"mix": {"hasty_prob": 0.5}}, "chain_sums has no hasty_prob; known: direct_prob"),
        ({"mix": {"direct_prob": 1.5}}, r"direct_prob=1\.5"),
        ({"learning_rate": 0.0}, r"learning_rate=0\.0"),
        ({"model": ModelShape(max_positions=20)}, r"model\.max_positions=20"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        WarmstartConfig(output="x", **settings)  # type: ignore[arg-type]  # values of many types


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_heads=3"):
        ModelShape(num_heads=3)


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_shipped_checkpoints_are_small_and_know_the_words_of_their_task(name: str) -> None:
    folder = ROOT / "checkpoints" / name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer)
    words = WarmstartConfig(output="x", task=name, model=ModelShape(max_positions=640)).make().words
    assert [tokenizer(word)["input_ids"] for word in words] == [
        [tokenizer.convert_tokens_to_ids(word)] for word in words
    ]
