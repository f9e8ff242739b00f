"""Settings of the policy trainer: TRL's GRPOConfig plus the three choices that make an algorithm.

An algorithm is `clip` (how far a token's ratio may move), `advantage` (what a response is compared
with) and `aggregation` (how token losses become one number). GRPO is fixed + group + sequence_mean,
DAPO fixed + group + token_mean, DCPO dac + sas + otm (arXiv 2509.02333), TreePO fixed + tree +
token_mean (2508.17445). losses.py, aggregation.py, advantages.py and tree_advantages.py hold the
formulas, combinations.py what excludes what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from trainers.advantages import BatchNorm
from trainers.combinations import check_algorithm

CLIP_RULES = ("fixed", "dac", "gspo", "cispo")
ADVANTAGES = ("group", "sas", "tree", "dcpo_tree")
AGGREGATIONS = ("otm", "token_mean", "sequence_mean", "constant")
BATCH_NORMS: tuple[BatchNorm, ...] = ("batch_whiten", "batch_scale", "none")
LEAF_WEIGHTINGS = ("uniform", "inverse_fork")
TREE_WEIGHTINGS = ("average", "subgroup_size")

# TRL options whose work is done elsewhere here; naming one in a recipe is an error, with this advice.
MOVED_FIELDS: dict[str, str] = {
    "loss_type": "use trainer.clip and trainer.aggregation",
    "importance_sampling_level": "only token ratios are implemented; use trainer.clip",
    "delta": "use trainer.ratio_cap",
    "multi_objective_aggregation": "rewards are summed with rewards.<i>.weight",
    "reward_weights": "use rewards.<i>.weight",
    "num_generations": "use rollout.width",
    "num_generations_eval": "use evaluation.k",
    "max_completion_length": "use rollout.max_segments and rollout.segment_length",
    "temperature": "use rollout.temperature",
    "top_p": "use rollout.top_p",
    "top_k": "use rollout.top_k",
    "min_p": "use rollout.min_p",
    "repetition_penalty": "penalties would make the sampled law differ from the trained one",
    "generation_kwargs": "use the rollout section",
    "generation_batch_size": "use trainer.per_device_train_batch_size and trainer.steps_per_generation",
    "cache_implementation": "the engine keeps its own KV store",
    "use_transformers_continuous_batching": "the engine batches continuously by itself",
    "use_vllm": "only the built-in engine is supported",
    "eval_strategy": "use evaluation.every_steps",
    "eval_steps": "use evaluation.every_steps",
    "eval_on_start": "the evaluation section always evaluates before and after",
    "do_eval": "use the evaluation section",
    "report_to": "use logging.report_to",
    "run_name": "use logging.run_name",
    "log_completions": "use logging.rollout_samples_every",
    "model_init_kwargs": "use the model section",
    "output_dir": "use logging.output_dir or --output_dir",
    "resume_from_checkpoint": "use --resume",
    "remove_unused_columns": "rewards need all columns",
    "mask_truncated_completions": "truncated leaves are training responses",
    "off_policy_mask_threshold": "not part of any algorithm here",
    "top_entropy_quantile": "not part of any algorithm here",
    "entropy_coef": "an entropy bonus is not implemented",
    "use_adaptive_entropy": "an entropy bonus is not implemented",
    "use_liger_kernel": "TRL's fused head is always used",
    "load_best_model_at_end": "every checkpoint is kept up to trainer.save_total_limit",
    "auto_find_batch_size": "the batch size decides which prompts form a rollout batch",
    "push_to_hub": "upload the final folder yourself when the run is done",
    "ds3_gather_for_generation": "ranks run different numbers of forwards, so weights must be gathered",
}


@dataclass(kw_only=True)
class PolicyConfig(GRPOConfig):
    """TRL's and transformers' names unchanged; the fields below are ours."""

    clip: str = field(
        default="dac",
        metadata={
            "help": "fixed: [1-epsilon, 1+epsilon_high]; dac: DCPO eq. 4 with epsilon, epsilon_high; "
            "gspo: fixed bounds on one ratio per response; cispo: weight capped at epsilon_high"
        },
    )
    advantage: str = field(
        default="sas",
        metadata={
            "help": "group: z-score in the prompt group; sas: DCPO eq. 5-7 with a per-prompt store; "
            "tree: TreePO eq. 5, mean over ancestor groups; dcpo_tree: sas at the root + sub-groups"
        },
    )
    aggregation: str = field(
        default="otm",
        metadata={
            "help": "otm: DCPO eq. 8 per prompt; token_mean; sequence_mean; constant (Dr. GRPO)"
        },
    )
    adv_norm: str | None = field(
        default=None,
        metadata={
            "help": "advantages over the token-weighted batch: batch_scale divides by the std, "
            "batch_whiten also subtracts the mean, none; default: batch_scale for tree, else none"
        },
    )
    tree_weighting: str = field(
        default="average",
        metadata={"help": "ancestor groups of advantage tree: average, or subgroup_size"},
    )
    distinct_groups: bool = field(
        default=True,
        metadata={
            "help": "count a level that did not fork once; false: again, as TreePO's published code"
        },
    )
    leaf_weighting: str = field(
        default="uniform",
        metadata={
            "help": "weight of a leaf in group means and in the statistics of sas: uniform, or "
            "inverse_fork (undoes the over-representation of long paths)"
        },
    )
    loss_leaf_weighting: str = field(
        default="uniform",
        metadata={"help": "weight of a leaf in the loss: uniform, or inverse_fork (mean 1 a tree)"},
    )
    dynamic_sampling_rounds: int = field(
        default=0,
        metadata={
            "help": "extra rollout rounds in which prompts with equal rewards are replaced by others "
            "(DAPO, TreePO); 0: off"
        },
    )
    ratio_cap: float | None = field(
        default=10.0,
        metadata={
            "help": "r_max: cap of dac's upper bound and dual clip for A < 0; null = no dual clip"
        },
    )

    def __post_init__(self) -> None:
        """Check our fields, then TRL's."""
        _one_of("trainer.clip", self.clip, CLIP_RULES)
        _one_of("trainer.advantage", self.advantage, ADVANTAGES)
        _one_of("trainer.aggregation", self.aggregation, AGGREGATIONS)
        _one_of("trainer.leaf_weighting", self.leaf_weighting, LEAF_WEIGHTINGS)
        _one_of("trainer.loss_leaf_weighting", self.loss_leaf_weighting, LEAF_WEIGHTINGS)
        _one_of("trainer.tree_weighting", self.tree_weighting, TREE_WEIGHTINGS)
        if self.adv_norm is not None:
            _one_of("trainer.adv_norm", self.adv_norm, BATCH_NORMS)
        if self.dynamic_sampling_rounds < 0:
            raise ValueError(
                f"trainer.dynamic_sampling_rounds={self.dynamic_sampling_rounds} is negative; 0 = off"
            )
        if self.ratio_cap is not None and self.ratio_cap <= 1.0:
            raise ValueError(
                f"trainer.ratio_cap={self.ratio_cap} must be above 1 (the paper uses 10)"
            )
        if self.clip == "dac" and self.ratio_cap is None:
            raise ValueError("trainer.clip=dac needs trainer.ratio_cap (the paper uses 10)")
        check_algorithm(vars(self))
        super().__post_init__()

    @property
    def batch_norm(self) -> BatchNorm:
        """`adv_norm`, or the default of the advantage (TreePO's paper: batch_scale)."""
        if self.adv_norm is None:
            return "batch_scale" if self.advantage == "tree" else "none"
        return next(norm for norm in BATCH_NORMS if norm == self.adv_norm)

    @property
    def clip_range(self) -> tuple[float, float]:
        """(epsilon_low, epsilon_high); the upper one defaults to the lower one, as in TRL."""
        high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        return float(self.epsilon), float(high)


def check_trainer_keys(section: dict[str, Any]) -> None:  # values of any YAML type
    """Refuse options of TRL that would have no effect here.

    Raises:
        ValueError: names the option and what to use instead.
    """
    for key in section:
        if key in MOVED_FIELDS:
            raise ValueError(f"trainer.{key} could not take effect: {MOVED_FIELDS[key]}")
        if key.startswith("vllm_"):
            raise ValueError(
                f"trainer.{key} could not take effect: only the built-in engine is used"
            )


def check_trainer_values(trainer: dict[str, Any]) -> None:  # arguments of any type
    """Refuse values that would fail only after a model was loaded.

    Raises:
        ValueError: names the option, what was given and what is expected.
    """
    _one_of("trainer.clip", trainer.get("clip", "dac"), CLIP_RULES)
    _one_of("trainer.advantage", trainer.get("advantage", "sas"), ADVANTAGES)
    _one_of("trainer.aggregation", trainer.get("aggregation", "otm"), AGGREGATIONS)
    for name in ("epsilon", "epsilon_high", "learning_rate"):
        value = trainer.get(name)
        if value is not None and value <= 0:
            raise ValueError(f"trainer.{name}={value} must be positive")
    if trainer.get("max_steps") == 0:
        raise ValueError("trainer.max_steps=0 trains nothing; use -1 for trainer.num_train_epochs")


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; expected one of {', '.join(allowed)}")
