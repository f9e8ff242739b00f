"""The adapter on TRL 1.16's GRPOTrainer; the only module that touches TRL's private methods.

TRL keeps the loop, the optimizer, DeepSpeed, gradient accumulation and the fused log-prob forward.
Replaced here: generation (segment trees from our engine on the very module that is trained), the
advantages (advantages.py, prompt_store.py), the loss (losses.py), the order of prompts (sampler.py)
and checkpoints (checkpointing.py). Faults of TRL 1.16 that do not reach users:

* a run resumed in epoch 2 or later repeated epoch 1's order (EpochRepeatSampler);
* a checkpoint inside a rollout block regenerated its prompts (the block is saved);
* an interrupted save was chosen on resume (checkpoints appear by rename, with a marker);
* dropout stayed active while sampling (the engine samples in eval mode);
* an empty completion crashed, NaN log-probs in padding poisoned the loss.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from inference.engine import Engine, EngineConfig
from inference.philox import path_key
from rollout.config import RolloutConfig
from rollout.growth import grow_trees
from rollout.stats import GrowthStats, growth_stats
from rollout.tree import RolloutTree
from trainers import checkpointing, policy_advantages, policy_loss
from trainers.advantages import response_utilisation
from trainers.clip_metrics import clip_counts
from trainers.combinations import check_rollout
from trainers.dynamic_sampling import Draw, Replacements, draw_with_signal
from trainers.leaf_groups import LeafGroup, leaf_groups, with_rewards
from trainers.policy_config import PolicyConfig
from trainers.prompt_store import PromptStore
from trainers.reward_function import RewardFunction
from trainers.rollout_phase import (
    EngineUse,
    Row,
    columns,
    encode_text,
    leaf_rows,
    prompt_groups,
    prompt_tasks,
    text_of,
    tokenize,
    use_metrics,
)
from trainers.sampler import EpochRepeatSampler
from trainers.step_metrics import StepMetrics, mismatch_metrics
from trainers.tree_metrics import tree_metrics

logger = logging.getLogger(__name__)

STORE_FILE = "prompt_store.json"


@dataclass(slots=True, kw_only=True)
class RolloutBatch:
    """What the newest rollout produced on this rank, kept for dumps until the next one."""

    step: int
    trees: list[RolloutTree]
    rewards: list[float]
    """One per leaf, tree by tree; NaN where unscorable."""
    advantages: list[float]


class PolicyTrainer(GRPOTrainer):
    """Trains a policy with tree rollouts and the clip, advantage and aggregation of `PolicyConfig`."""

    args: PolicyConfig

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: PolicyConfig,
        rewards: Sequence[RewardFunction],
        train_dataset: Dataset[Any],  # rows are the user's columns
        processing_class: PreTrainedTokenizerBase,
        rollout: RolloutConfig,
        inference: EngineConfig,
        callbacks: list[TrainerCallback] | None = None,
        peft_config: Any = None,  # peft's configuration classes share no public base
    ) -> None:
        check_rollout(vars(args), rollout)
        self.rollout_config = rollout
        self.inference_config = inference
        self.prompt_store = PromptStore()
        self.newest_rollout: RolloutBatch | None = None
        self._engine: Engine | None = None
        self._rows: list[dict[str, Any]] = []  # rows of the rollout in progress
        self._trees: list[RolloutTree] = []
        self._draws: list[Draw] = []  # what dynamic sampling chose for the rollout in progress
        self._use = EngineUse()  # cost of the rollout in progress
        self._judge_s = 0.0  # seconds that dynamic sampling spent on rewards
        self._num_generated: int | None = None  # responses made; None: those of the batch
        self._rewards = list(rewards)
        self._gathered_rewards = torch.empty(0)
        self._staging: Path | None = None
        self._step_metrics = StepMetrics()
        super().__init__(
            model=model,
            reward_funcs=list(rewards),
            args=args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            peft_config=peft_config,
            rollout_func=cast("Any", _rollout_func),  # TRL types its argument by its own class
        )

    # ---- data order ------------------------------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Sampler[int]:  # Trainer's signature
        rows = cast("int", self.args.generation_batch_size)
        return EpochRepeatSampler(
            cast("Sized", self.train_dataset if dataset is None else dataset),
            group_size=self.rollout_config.width,
            batch_size=rows // self.rollout_config.width,
            repeats=self._block_length,
            shuffle=bool(self.shuffle_dataset),
            seed=self.args.seed,
        )

    @property
    def _block_length(self) -> int:
        """Micro-batches that one rollout batch serves."""
        return cast("int", self.args.steps_per_generation) * self.num_iterations

    # ---- rollouts --------------------------------------------------------------------------

    @contextlib.contextmanager
    def rollout_engine(self) -> Iterator[Engine]:
        """The engine over the live weights; all ranks enter and leave together (ZeRO-3 gathers)."""
        with (
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=True,
                gradient_checkpointing_kwargs=cast("Any", self.args.gradient_checkpointing_kwargs),
            ) as policy,
            torch.no_grad(),
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            if self._engine is None:
                self._engine = Engine(policy, config=self.inference_config)
            self._engine.set_policy_version(self.state.global_step)
            self._engine.reset_stats()
            with self.accelerator.autocast(), self._engine.session():
                yield self._engine

    def tokenize_prompts(self, prompts: list[Any]) -> list[list[int]]:  # texts or message lists
        """Token ids of prompts, through the chat template where they are conversations."""
        return tokenize(self._tokenizer, prompts)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids without special tokens, as the rewards see it."""
        return text_of(self._tokenizer, token_ids)

    def encode(self, text: str) -> list[int]:
        """Token ids of an environment's text; it cannot contain special tokens."""
        return encode_text(self._tokenizer, text)

    def rollout_columns(self, prompts: list[Any]) -> dict[str, list[Any]]:  # TRL's rollout contract
        """Trees of the prompt groups of this rank as rows: one per leaf, groups in order."""
        groups = prompt_groups(self._rows, self.rollout_config.width)
        assert len(self._rows) == len(prompts), f"{len(self._rows)} rows, {len(prompts)} prompts"
        self._trees = [draw.tree for draw in self._draws] or self._grow(groups)
        self._record(sum(gather_object([growth_stats(self._trees)]), GrowthStats()).metrics())
        self._record(use_metrics(gather_object([self._use])))
        self._use = EngineUse()
        return columns(leaf_rows(self._trees))

    def _grow(self, groups: Sequence[Row], round_number: int = 0) -> list[RolloutTree]:
        """A tree for every prompt; all ranks call it together, with as few prompts as none."""
        tasks = prompt_tasks(groups, self.tokenize_prompts)
        words = ("rollout", self.args.seed, self.state.global_step)
        started = time.perf_counter()
        with self.rollout_engine() as engine:
            trees = grow_trees(
                engine,
                tasks,
                self.rollout_config,
                decode=self.decode,
                eos_token_ids=self.eos_token_ids,
                seed=path_key(*words, round_number) if round_number else path_key(*words),
                encode=self.encode,
                progress=min(self.state.global_step / max(self.state.max_steps, 1), 1.0),
            )
            stats = engine.stats
            kv_bytes, computed = stats.peak_kv_bytes, stats.tokens_computed
        self._use += EngineUse(
            kv_bytes=kv_bytes,
            computed=computed,
            sampled=sum(tree.num_sampled_tokens for tree in trees),
            seconds=time.perf_counter() - started,
        )
        return trees

    # ---- dynamic sampling ------------------------------------------------------------------

    def _resampled(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows after prompts without signal gave their places to others."""
        groups = prompt_groups(rows, self.rollout_config.width)
        replacements = Replacements(
            cast("Any", self.train_dataset),
            seed=self.args.seed,
            step=self.state.global_step,
            taken=gather_object([row["prompt_id"] for row in groups]),
        )
        self._draws, counts = draw_with_signal(
            groups,
            replacements,
            draw=self._draw,
            gather=gather_object,
            rank=self.accelerator.process_index,
            num_rounds=self.args.dynamic_sampling_rounds,
            reward_weights=self.reward_weights.tolist(),
        )
        self._num_generated = counts.generated * self.rollout_config.width
        self._record(counts.metrics(len(groups) * self.accelerator.num_processes))
        return [dict(one.row) for one in self._draws for _ in range(self.rollout_config.width)]

    def _draw(self, groups: Sequence[Row], round_number: int) -> list[Draw]:
        trees = self._grow(groups, round_number)
        leaves = leaf_rows(trees)
        started = time.perf_counter()
        scores = [
            reward.judge_leaves(leaves, self.decode, self._log_metric) for reward in self._rewards
        ]
        per_leaf = list(zip(*scores, strict=True))
        self._judge_s += time.perf_counter() - started
        width = self.rollout_config.width
        return [
            Draw(row=row, tree=tree, scores=tuple(per_leaf[i * width : (i + 1) * width]))
            for i, (row, tree) in enumerate(zip(groups, trees, strict=True))
        ]

    # ---- rewards and advantages ------------------------------------------------------------

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:  # TRL's signature
        started = time.perf_counter()
        if self._draws:  # judged while they were drawn
            scores = [values for draw in self._draws for values in draw.scores]
            local = torch.tensor(scores, dtype=torch.float32, device=self.accelerator.device)
            self._gathered_rewards = self.accelerator.gather(local)
        else:
            self._gathered_rewards = super()._calculate_rewards(*args, **kwargs)
        self._record({"time/reward_s": time.perf_counter() - started + self._judge_s})
        return self._gathered_rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._draws, self._judge_s, self._num_generated = [], 0.0, None
        if self.args.dynamic_sampling_rounds:
            inputs = self._resampled(inputs)
        self._rows = inputs
        output = super()._generate_and_score_completions(inputs)
        rewards = self._combined_rewards()
        groups = with_rewards(gather_object(leaf_groups(self._trees)), rewards.double().tolist())
        advantages = self._all_advantages(groups, rewards, output["advantages"])
        first = self.accelerator.process_index * len(inputs)
        local = slice(first, first + len(inputs))
        output["advantages"] = advantages[local]
        if self.args.loss_leaf_weighting == "inverse_fork":
            self._weigh_loss(output, groups, local)
        self._record(tree_metrics(groups))
        made = self._num_generated
        self._record(
            {
                "reward/rur": response_utilisation(advantages, num_generated=made),
                "reward/rur_above_0.05": response_utilisation(
                    advantages, threshold=0.05, num_generated=made
                ),
            }
        )
        self._record_mismatch(output)
        self.newest_rollout = RolloutBatch(
            step=self.state.global_step,
            trees=self._trees,
            rewards=rewards[local].tolist(),
            advantages=advantages[local].tolist(),
        )
        return output

    def _combined_rewards(self) -> torch.Tensor:
        """Weighted sum over reward functions of all ranks' rows; NaN where none could score."""
        per_function = self._gathered_rewards
        weights = self.reward_weights.to(per_function.device)
        total = (per_function * weights).nansum(dim=1)
        return total.masked_fill(per_function.isnan().all(dim=1), torch.nan)

    def _all_advantages(
        self, groups: Sequence[LeafGroup], rewards: torch.Tensor, group: torch.Tensor
    ) -> torch.Tensor:
        """Advantages of all ranks' rows; every rank makes the same update of its own store."""
        args = self.args
        if args.advantage == "group" and args.leaf_weighting == "uniform":
            return policy_advantages.normalised(args, self.accelerator.gather(group), groups)
        values, metrics = policy_advantages.leaf_advantages(args, groups, self.prompt_store)
        self._record(metrics)
        advantages = torch.tensor(values, dtype=torch.float64, device=rewards.device)
        return policy_advantages.normalised(args, advantages, groups)

    def _weigh_loss(
        self, output: dict[str, Any], groups: Sequence[LeafGroup], local: slice
    ) -> None:
        """Row weights for the loss; tokens of the token mean then count with them."""
        weights = torch.tensor(
            policy_advantages.loss_weights(groups),
            dtype=torch.float32,
            device=output["advantages"].device,
        )
        lengths = weights.new_tensor([num for group in groups for num in group.num_tokens])
        output["row_weights"] = weights[local]
        output["num_items_in_batch"] = (weights * lengths).sum()

    def _record_mismatch(self, output: dict[str, Any]) -> None:
        """Compare the engine's log-probs with the trainer's, where it computed them."""
        old = output.get("old_per_token_logps")
        if old is not None:
            gap = (old - output["sampling_per_token_logps"]).abs()[_loss_mask(output)]
            self._record(mismatch_metrics(gap, self.accelerator))

    # ---- loss ------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:  # any wrapper
        loss_mask_BT = _loss_mask(inputs)
        logprobs_BT, entropies_BT, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
            compute_entropy=True,
        )
        old_BT = inputs.get("old_per_token_logps")
        old_BT = logprobs_BT.detach() if old_BT is None else old_BT
        loss_BT, clip = policy_loss.token_loss(
            self.args, logprobs_BT, old_BT, inputs["advantages"], loss_mask_BT
        )
        values = {"entropy": entropies_BT[loss_mask_BT]}
        if self.beta != 0.0:
            kl_BT = policy_loss.kl_k3(logprobs_BT, inputs["ref_per_token_logps"])
            loss_BT = loss_BT + self.beta * kl_BT
            values["kl"] = kl_BT[loss_mask_BT]
        if "row_weights" in inputs:
            loss_BT = loss_BT * inputs["row_weights"][:, None]
        self._step_metrics.add(clip_counts(clip, old_BT, loss_mask_BT), **values)
        if self.accelerator.sync_gradients:
            self._record(self._step_metrics.flush(self.accelerator))
        share = policy_loss.aggregate(self.args, loss_BT, loss_mask_BT, self._step_size(inputs))
        return share * self.accelerator.num_processes

    def _step_size(self, inputs: dict[str, Any]) -> policy_loss.StepSize:
        """Denominators of one optimizer step; the token count is the generation batch's share."""
        micro_batches = self.current_gradient_accumulation_steps
        rows = inputs["completion_ids"].size(0) * micro_batches * self.accelerator.num_processes
        tokens = inputs["num_items_in_batch"].clamp(min=1.0).item()
        return policy_loss.StepSize(
            num_tokens=tokens * micro_batches / self.args.steps_per_generation,
            num_sequences=rows,
            num_prompts=rows / self.rollout_config.width,
            max_length=self.rollout_config.response_limit,
        )

    def log_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Log held-out figures on their own, without flushing the training metrics."""
        logs = {f"eval_{name.removeprefix('eval/')}": value for name, value in metrics.items()}
        training_row_is_due = self.control.should_log
        super(GRPOTrainer, self).log(logs)
        self.control.should_log = training_row_is_due  # logging clears it

    def _record(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)

    # ---- checkpoints -----------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:  # Trainer's signature
        return str(self._staging) if self._staging is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # Trainer's signature
        self._check_stores_agree()
        run_dir = Path(str(self.args.output_dir))
        self._staging = run_dir / checkpointing.STAGING
        staged = self._staging / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._staging = None
        checkpointing.save_block(staged, self.accelerator.process_index, self._block())
        if self.args.should_save:
            self.prompt_store.save(staged / STORE_FILE)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpointing.publish(
                staged,
                run_dir,
                num_processes=self.accelerator.num_processes,
                keep=self.args.save_total_limit,
            )
        self.accelerator.wait_for_everyone()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:  # Trainer's signature
        """Nothing: TRL would describe a GRPO run; the training run writes its own card."""

    def _check_stores_agree(self) -> None:
        """Every rank keeps its own store; a difference means that rewards were not the same."""
        checksums = gather_object([self.prompt_store.checksum()])
        if len(set(checksums)) > 1:
            raise RuntimeError(f"the prompt stores of the processes differ: checksums {checksums}")

    def _block(self) -> checkpointing.BlockState:
        inside = self._step % self._block_length != 0
        return checkpointing.BlockState(
            micro_step=self._step, buffered=self._buffered_inputs if inside else None
        )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        self.prompt_store = PromptStore.load(folder / STORE_FILE)
        self._step = checkpointing.load_block(folder, 0).micro_step
        if checkpointing.read_marker(folder)["num_processes"] != self.accelerator.num_processes:
            logger.warning(
                "%s was saved by another number of processes: a rollout batch in progress is "
                "sampled again, and the order of prompts is another one from here on",
                folder,
            )
            return
        block = checkpointing.load_block(folder, self.accelerator.process_index)
        if block.buffered is not None:
            device = self.accelerator.device
            buffered = [send_to_device(rows, device) for rows in block.buffered]
            self._buffered_inputs = cast("Any", buffered)  # TRL types it by its first value, None


def _loss_mask(inputs: Mapping[str, Any]) -> torch.Tensor:
    """[B, T] bool, True where the loss is taken."""
    mask_BT = inputs["completion_mask"]
    if "tool_mask" in inputs:
        mask_BT = mask_BT * inputs["tool_mask"]
    return mask_BT.bool()


def _rollout_func(prompts: list[Any], trainer: PolicyTrainer) -> dict[str, list[Any]]:
    return trainer.rollout_columns(prompts)
