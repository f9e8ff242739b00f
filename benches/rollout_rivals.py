"""What the rollout bench compares: one object per way to get G responses to one prompt.

Each has `name` and `run(workload)`, which returns the seconds taken, the tokens drawn and what it
counted. All draw from the plain law at temperature 1 and return at least log-probs where they can:
our engine returns raw and behaviour log-probs and entropies, vLLM the log-prob, transformers nothing.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, Qwen2ForCausalLM

from inference.engine import Engine
from rollout.config import PromptTask, RolloutConfig
from rollout.growth import grow_trees


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One prompt, `group` responses of `new` tokens; as a tree its widths double up to the group."""

    prompt: list[int]
    group: int
    new: int
    depth: int = 4
    """Segments of a response when grown as a tree."""

    @property
    def segment(self) -> int:
        """Tokens of a segment."""
        return self.new // self.depth

    @property
    def widths(self) -> list[int]:
        """Paths per level: group / 2^(depth-1), ..., group / 2, group."""
        return [max(1, self.group >> (self.depth - 1 - level)) for level in range(self.depth)]


@dataclass(slots=True)
class Outcome:
    """One run."""

    seconds: float
    tokens: int
    counted: dict[str, int] = field(default_factory=dict)


class Rival(Protocol):
    """A way to roll out."""

    name: str

    def run(self, work: Workload) -> Outcome:
        """Roll out once."""
        ...


class Ours:
    """The engine, driven by rollout.growth as in training: independent responses or a tree."""

    def __init__(self, model: Qwen2ForCausalLM, *, is_tree: bool) -> None:
        self.name = "ours_tree" if is_tree else "ours_flat"
        self.is_tree = is_tree
        self.engine = Engine(model)

    def run(self, work: Workload) -> Outcome:
        """Grow one prompt's tree."""
        self.engine.reset_stats()
        config = RolloutConfig(
            width=work.group,
            max_segments=work.depth if self.is_tree else 1,
            segment_length=work.segment if self.is_tree else work.new,
            branching=2 if self.is_tree else 1,
            initial_divergence=work.widths[0] if self.is_tree else work.group,
        )
        task = PromptTask(prompt_id="p", token_ids=work.prompt, example={})
        start = time.perf_counter()
        with self.engine.session():
            grow_trees(self.engine, [task], config, decode=lambda ids: "", eos_token_ids=(), seed=0)
        seconds = time.perf_counter() - start
        stats = self.engine.stats
        counted = {
            "tokens_computed": stats.tokens_computed,
            "forwards": stats.forwards,
            "peak_kv_bytes": stats.peak_kv_bytes,
        }
        return Outcome(seconds, stats.tokens_sampled, counted)


class Generate:
    """`generate` with num_return_sequences."""

    name = "generate"

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        self.model = model

    def run(self, work: Workload) -> Outcome:
        """Sample all responses in one call."""
        start = time.perf_counter()
        self.model.generate(  # type: ignore[misc]  # transformers' annotation of self
            input_ids=torch.tensor([work.prompt]),
            attention_mask=torch.ones(1, len(work.prompt), dtype=torch.long),
            num_return_sequences=work.group,
            do_sample=True,
            top_k=0,
            max_new_tokens=work.new,
            min_new_tokens=work.new,
            pad_token_id=0,
        )
        seconds = time.perf_counter() - start
        computed = work.group * (len(work.prompt) + work.new - 1)
        return Outcome(seconds, work.group * work.new, {"tokens_computed": computed})


class GenerateBatch:
    """`generate_batch`: transformers' continuous batching, prompt shared through full pages."""

    name = "generate_batch"

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        self.model = model

    def run(self, work: Workload) -> Outcome:
        """Sample all responses in one call."""
        config = GenerationConfig(
            do_sample=True,
            top_k=0,
            max_new_tokens=work.new,
            eos_token_id=-1,
            pad_token_id=0,
            num_return_sequences=work.group,
        )
        batching = ContinuousBatchingConfig(max_memory_percent=0.2, max_batch_tokens=4096)
        start = time.perf_counter()
        outputs = self.model.generate_batch(
            [work.prompt],
            generation_config=config,
            continuous_batching_config=batching,
            progress_bar=False,
        )
        seconds = time.perf_counter() - start
        self.model.eval()
        return Outcome(seconds, sum(len(out.generated_tokens) for out in outputs.values()))


class Vllm:
    """vLLM's CPU build in another Python environment, see vllm_worker.py."""

    def __init__(
        self, model: Qwen2ForCausalLM, python: Path, threads: int, *, max_length: int
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rollout_bench_")
        model.save_pretrained(self._folder.name)
        worker = Path(__file__).with_name("vllm_worker.py")
        dtype = str(model.dtype).removeprefix("torch.")
        command = [python, worker, self._folder.name, dtype, str(max_length), str(threads)]
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._folder.cleanup()

    def ask(self, task: dict[str, Any]) -> Outcome:
        """Run one task in the worker."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return Outcome(answer["seconds"], answer["tokens"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the vLLM worker ended; run it by hand to see why (its docstring)")
        answer: dict[str, Any] = json.loads(line)
        return answer


class VllmFlat:
    """One vLLM request with n = group."""

    name = "vllm_flat"

    def __init__(self, worker: Vllm) -> None:
        self.worker = worker

    def run(self, work: Workload) -> Outcome:
        """Sample all responses in one call."""
        return self.worker.ask({"prompt": work.prompt, "group": work.group, "new": work.new})


class VllmTree:
    """A tree as repeated vLLM requests over the prefix cache."""

    name = "vllm_tree"

    def __init__(self, worker: Vllm) -> None:
        self.worker = worker

    def run(self, work: Workload) -> Outcome:
        """Grow the tree level by level."""
        return self.worker.ask(
            {"prompt": work.prompt, "widths": work.widths, "segment": work.segment}
        )
