"""recipes/dcpo_gsm8k.yaml with a tiny random Qwen2 checkpoint and real rows of GSM8K.

Only what cannot be on a small CPU machine is overridden: where model and data are, how many rows,
how long. The chat template, the reward levels, the clip rule, the schedule are the recipe's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from rollout.dump import read_jsonl
from trainers.monitoring.metrics_file import read_metrics

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "tests" / "data" / "gsm8k"
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def qwen2_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's own tokenizer class with a small byte-level vocabulary trained on the test rows."""
    rows = [json.loads(line) for line in (ROWS / "train.jsonl").read_text().split("\n") if line]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([row["question"] for row in rows], vocab_size=400, show_progress=False)
    model = json.loads(bpe._tokenizer.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=cast("Any", [tuple(merge) for merge in model["merges"]]),  # pairs, as it wants them
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def save_policy(folder: Path) -> Path:
    """A random Qwen2 with a chat template, as a checkpoint folder."""
    tokenizer = qwen2_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_recipe_for_word_problems_trains(tmp_path: Path) -> None:
    overrides = {
        "model.path": save_policy(tmp_path / "policy"),
        "data.train": ROWS / "train.jsonl",
        "data.heldout": ROWS / "heldout.jsonl",
        "rollout.width": 4,
        "rollout.initial_divergence": "[2, 4]",
        "rollout.segment_length": 8,
        "rollout.max_segments": 3,
        "trainer.per_device_train_batch_size": 4,
        "trainer.steps_per_generation": 4,
        "trainer.gradient_accumulation_steps": 2,
        "trainer.max_steps": 4,
        "trainer.use_cpu": "true",
        "evaluation.num_prompts": 4,
        "evaluation.k": 2,
        "logging.report_to": "[none]",
    }
    arguments = [part for k, v in overrides.items() for part in ("--set", f"{k}={v}")]
    result = subprocess.run(
        [
            str(Path(sys.executable).parent / "accelerate"),
            "launch",
            "recipes/dcpo_gsm8k.yaml",
            "--output_dir",
            str(tmp_path / "run"),
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    # the recipe trains under bf16 autocast: engine and trainer differ by rounding
    assert max(row.get("policy/engine_mismatch_max", 0.0) for row in rows) < 0.1
    # a random policy writes no box: malformed, the lowest of the three levels
    assert {row["reward"] for row in rows if "reward" in row} == {-1.0}
    with next((tmp_path / "run" / "rollouts").glob("*.jsonl")).open() as file:
        prompt = next(read_jsonl(file)).segments[0].token_ids
    text = str(qwen2_tokenizer().decode(list(prompt)))
    assert text.startswith("<|system|>Please reason step by step, and put your final answer")
    assert text.endswith("<|assistant|>\n")
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "final")
