"""Tokens per second of the engine against transformers' generate, on random models.

    OMP_NUM_THREADS=1 python benches/engine_step.py
    OMP_NUM_THREADS=1 python benches/engine_step.py --json result.json --branches 16 --prompt 512

One prompt, `branches` continuations of `new` tokens each, float32, sampled at temperature 1. Both
sides run in the same process, in turn, with one warm-up each; median over `repeats`. The engine
computes log-probs and entropies of every token, generate does not. Counted quantities are exact;
ideal: prompt + branches * (new - 1) tokens computed by the engine, branches times the prompt by
generate.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM

from inference.engine import Engine, EngineConfig
from inference.requests import SamplingParams
from inference.step_plan import AttentionBackend

SHAPES: dict[str, dict[str, Any]] = {  # keyword arguments of the configuration
    "1M": {"num_hidden_layers": 4, "hidden_size": 128, "intermediate_size": 384},
    "5M": {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 768},
}
BACKENDS: tuple[AttentionBackend, ...] = ("shared_prefix", "gather")


def build_model(size: str) -> Qwen2ForCausalLM:
    """Return a random float32 model of about that many parameters."""
    torch.manual_seed(0)
    heads = SHAPES[size]["hidden_size"] // 32
    config = Qwen2Config(
        vocab_size=2048 if size == "1M" else 4096,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        tie_word_embeddings=True,
        **SHAPES[size],
    )
    return Qwen2ForCausalLM(config).eval()


def engine_run(engine: Engine, prompt: Sequence[int], branches: int, new: int) -> None:
    """Decode all branches and free everything."""
    with engine.session():
        root = engine.open(prompt)
        paths = engine.fork(root, branches)
        engine.close(root)
        engine.decode(paths, max_new_tokens=new, sampling=SamplingParams(), keys=range(branches))
        engine.close(*paths)


def generate_run(model: Qwen2ForCausalLM, prompt: Sequence[int], branches: int, new: int) -> None:
    """Decode all branches with transformers."""
    model.generate(  # type: ignore[misc]  # transformers' annotation of self
        input_ids=torch.tensor([list(prompt)]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        num_return_sequences=branches,
        do_sample=True,
        top_k=0,
        max_new_tokens=new,
        min_new_tokens=new,
        pad_token_id=0,
    )


def seconds_in_turn(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Time the runs in turn after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return times


def measure(
    size: str, prompt_tokens: int, branches: int, new: int, repeats: int
) -> dict[str, object]:
    """Return numbers of one model."""
    model = build_model(size)
    prompt = list(range(1, prompt_tokens + 1))
    engines = {name: Engine(model, EngineConfig(attention=name)) for name in BACKENDS}
    runs: dict[str, Callable[[], None]] = {
        name: partial(engine_run, engine, prompt, branches, new) for name, engine in engines.items()
    }
    runs["generate"] = lambda: generate_run(model, prompt, branches, new)
    times = seconds_in_turn(runs, repeats)
    median = {name: statistics.median(values) for name, values in times.items()}
    stats = engines["shared_prefix"].stats
    return {
        "model": size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "prompt_tokens": prompt_tokens,
        "branches": branches,
        "new_tokens": new,
        "tokens_per_s": {name: branches * new / value for name, value in median.items()},
        "spread_s": {name: [min(values), max(values)] for name, values in times.items()},
        "ratio_to_generate": median["generate"] / median["shared_prefix"],
        "tokens_computed_per_run": stats.tokens_computed / (repeats + 1),
        "tokens_computed_ideal": prompt_tokens + branches * (new - 1),
        "peak_kv_bytes": stats.peak_kv_bytes,
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=sorted(SHAPES), default=sorted(SHAPES))
    parser.add_argument("--prompt", type=int, default=64, help="prompt tokens")
    parser.add_argument("--branches", type=int, default=128)
    parser.add_argument("--new", type=int, default=60, help="new tokens per branch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    results = [
        measure(size, args.prompt, args.branches, args.new, args.repeats) for size in args.models
    ]
    report = {
        "results": results,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    for result in results:
        print(json.dumps(result, indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
