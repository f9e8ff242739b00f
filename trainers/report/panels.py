"""Which curves are drawn, and where: one list for the pages and for the dashboard at wandb.

A key may end in `*`: then it stands for every logged key that it matches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

BUCKETS = ("q_below_0.01", "q_0.01_0.1", "q_0.1_0.64", "q_above_0.64")
CLIPPING = "Clipping"
FINISH_REASONS = ("finished", "eos", "max_tokens", "max_segments", "repetition")


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart."""

    title: str
    keys: tuple[str, ...]
    """Metrics of docs/metrics.md; several make several lines."""
    unit: str = ""
    is_log: bool = False
    """Logarithmic vertical axis; zeros are left out."""
    is_stacked: bool = False
    """Areas upon each other: shares that sum to 1."""
    is_smoothed: bool = False
    """Also draw the mean of five values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Charts under one heading."""

    name: str
    intro: str
    panels: tuple[Panel, ...]


def _of(prefix: str, names: Iterable[str], suffix: str = "") -> tuple[str, ...]:
    return tuple(f"{prefix}{name}{suffix}" for name in names)


GROUPS = (
    Group(
        name="Learning",
        intro="Is it learning, and does anything remain to be learned from?",
        panels=(
            Panel(
                title="Held-out accuracy",
                keys=("eval/avg_at_*", "eval/pass_at_*", "eval/maj_at_*"),
                unit="share",
            ),
            Panel(title="Training reward", keys=("reward",), is_smoothed=True),
            Panel(
                title="Verdicts",
                keys=_of("reward/", ("correct", "wrong", "no_answer"), "_frac"),
                unit="share",
            ),
            Panel(
                title="Responses with a non-zero advantage (RUR)",
                keys=("reward/rur", "reward/rur_above_0.05"),
                unit="share",
            ),
            Panel(title="Prompts without contrast", keys=("frac_reward_zero_std",), unit="share"),
            Panel(title="Entropy of the policy", keys=("policy/entropy",), unit="nats"),
            Panel(title="Loss", keys=("loss",)),
            Panel(title="Gradient norm before clipping", keys=("grad_norm",), is_log=True),
            Panel(title="KL to the reference", keys=("policy/kl",), unit="nats"),
        ),
    ),
    Group(
        name=CLIPPING,
        intro=(
            "Which tokens the clip rule stops, by their probability under the old policy. A fixed "
            "clip stops rare tokens first; dynamic-adaptive clipping gives them more room."
        ),
        panels=(
            Panel(
                title="Stopped upwards (A > 0)",
                keys=_of("clip/high_frac/", BUCKETS),
                unit="share",
            ),
            Panel(
                title="Stopped downwards (A < 0)",
                keys=_of("clip/low_frac/", BUCKETS),
                unit="share",
            ),
            Panel(title="Clipped tokens", keys=("clip/token_frac", "clip/tcr"), unit="share"),
            Panel(
                title="Largest and mean ratio to the old policy",
                keys=("policy/ratio_max", "policy/ratio_mean"),
            ),
            Panel(
                title="Tokens above old probability 0.9",
                keys=("clip/confident_frac",),
                unit="share",
            ),
        ),
    ),
    Group(
        name="Lengths and trees",
        intro="What the rollouts look like: length, depth, sharing, and why paths stop.",
        panels=(
            Panel(
                title="Response length",
                keys=_of("rollout/response_tokens_", ("mean", "min", "max")),
                unit="tokens",
            ),
            Panel(
                title="Why paths stopped",
                keys=_of("rollout/finish_", FINISH_REASONS, "_frac"),
                unit="share",
                is_stacked=True,
            ),
            Panel(
                title="Segments per response",
                keys=_of("rollout/depth_", ("mean", "max")),
                unit="segments",
            ),
            Panel(
                title="Row tokens saved by sharing", keys=("rollout/sharing_ratio",), unit="share"
            ),
            Panel(
                title="Tokens of a rollout batch",
                keys=_of("rollout/", ("trajectory_tokens", "computed_tokens", "sampled_tokens")),
                unit="tokens",
            ),
            Panel(
                title="Paths started by fallback, per prompt",
                keys=("rollout/fallback_paths_per_prompt",),
            ),
        ),
    ),
    Group(
        name="Engine",
        intro="Does the engine sample from the policy that is trained, and what does its memory hold?",
        panels=(
            Panel(
                title="Log-prob difference of engine and trainer",
                keys=_of("policy/engine_mismatch_", ("max", "mean")),
                unit="nats",
                is_log=True,
            ),
            Panel(title="KV at its peak", keys=("kv/peak_bytes",), unit="bytes"),
        ),
    ),
    Group(
        name="Time",
        intro="Where the seconds go.",
        panels=(
            Panel(title="Seconds of an optimizer step", keys=("step_time",), unit="s"),
            Panel(
                title="Seconds of a rollout batch",
                keys=("time/rollout_s", "time/reward_s"),
                unit="s",
            ),
            Panel(
                title="Sampled tokens per second of rollout",
                keys=("rollout/tokens_per_s",),
                unit="tokens/s",
            ),
        ),
    ),
)


def matching(patterns: Iterable[str], known: Iterable[str]) -> list[str]:
    """The known keys that the patterns stand for, in the order of the patterns."""
    names = sorted(known)
    found = [name for pattern in patterns for name in names if fnmatchcase(name, pattern)]
    return list(dict.fromkeys(found))
