"""Runs vLLM's CPU build beside benches/rollout.py, in the Python environment that has it.

    VENV/bin/python benches/vllm_worker.py MODEL_FOLDER DTYPE MAX_LENGTH THREADS

Reads one JSON object per line, {"prompt": [ids], "group": G, "new": N} or {"prompt": [ids], "widths":
[2, 4, ...], "segment": N}, and answers each with {"seconds": s, "tokens": sampled tokens}. A tree is
grown as repeated requests with prefix caching: one request per path and segment, its prompt being the
path so far, n its children. The prefix cache is emptied before each run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

MODEL, DTYPE, MAX_LENGTH, THREADS = sys.argv[1:5]
os.environ.update(
    {
        "OMP_NUM_THREADS": THREADS,
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
)


def main() -> None:
    """Answer requests until the input ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # the library prints to stdout
    import torch
    from vllm import LLM

    torch.set_num_threads(int(THREADS))
    llm: Any = LLM(
        model=MODEL,
        dtype=DTYPE,
        max_model_len=int(MAX_LENGTH),
        skip_tokenizer_init=True,
        enforce_eager=True,
        enable_prefix_caching=True,
        block_size=32,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        seed=0,
    )
    os.write(answers, b'{"ready": true}\n')
    for line in sys.stdin:
        task = json.loads(line)
        llm.reset_prefix_cache()
        start = time.perf_counter()
        tokens = _grow(llm, task) if "widths" in task else _flat(llm, task)
        answer = {"seconds": time.perf_counter() - start, "tokens": tokens}
        os.write(answers, (json.dumps(answer) + "\n").encode())


def _sampling(num: int, new: int, seed: int) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        n=num,
        temperature=1.0,
        max_tokens=new,
        min_tokens=new,
        ignore_eos=True,
        detokenize=False,
        logprobs=0,
        seed=seed,
    )


def _flat(llm: Any, task: dict[str, Any]) -> int:
    sampling = _sampling(task["group"], task["new"], 0)
    return _run(llm, [task["prompt"]], [sampling])[1]


def _grow(llm: Any, task: dict[str, Any]) -> int:
    paths, before, total = [task["prompt"]], 1, 0
    for level, width in enumerate(task["widths"]):
        sampling = [
            _sampling(width // before, task["segment"], 1000 * level + i) for i in range(len(paths))
        ]
        paths, tokens = _run(llm, paths, sampling)
        before, total = width, total + tokens
    return total


def _run(llm: Any, paths: Sequence[list[int]], sampling: Sequence[Any]) -> tuple[list[Any], int]:
    prompts = [{"prompt_token_ids": path} for path in paths]
    outputs = llm.generate(prompts, list(sampling), use_tqdm=False)
    drawn = [
        (path, list(out.token_ids))
        for path, output in zip(paths, outputs, strict=True)
        for out in output.outputs
    ]
    return [path + new for path, new in drawn], sum(len(new) for _, new in drawn)


if __name__ == "__main__":
    main()
