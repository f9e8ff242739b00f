"""Settings of the policy trainer: TRL's GRPOConfig plus the three choices that make an algorithm.

An algorithm is `clip` (how far a token's ratio may move), `advantage` (what a response is compared
with) and `aggregation` (how token losses become one number). GRPO is fixed + group + sequence_mean,
DAPO fixed + group + token_mean, DCPO dac + sas + otm (arXiv 2509.02333). losses.py and
aggregation.py hold the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

CLIP_RULES = ("fixed", "dac", "gspo", "cispo")
ADVANTAGES = ("group", "sas")
AGGREGATIONS = ("otm", "token_mean", "sequence_mean", "constant")

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
            "help": "group: z-score in the prompt group; sas: DCPO eq. 5-7 with a per-prompt store"
        },
    )
    aggregation: str = field(
        default="otm",
        metadata={
            "help": "otm: DCPO eq. 8 per prompt; token_mean; sequence_mean; constant (Dr. GRPO)"
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
        if self.ratio_cap is not None and self.ratio_cap <= 1.0:
            raise ValueError(
                f"trainer.ratio_cap={self.ratio_cap} must be above 1 (the paper uses 10)"
            )
        if self.clip == "dac" and self.ratio_cap is None:
            raise ValueError("trainer.clip=dac needs trainer.ratio_cap (the paper uses 10)")
        if self.advantage == "sas" and self.scale_rewards not in ("group", True):
            raise ValueError(
                f"trainer.scale_rewards={self.scale_rewards!r} has no effect with trainer.advantage=sas; "
                "leave it out or use trainer.advantage=group"
            )
        super().__post_init__()

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


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; expected one of {', '.join(allowed)}")
