"""Range checks of the rollout configuration."""

from __future__ import annotations

import pytest

from rollout.growth import PromptTask, RolloutConfig


def test_defaults_are_the_papers() -> None:
    config = RolloutConfig()
    assert (config.width, config.max_segments, config.segment_length) == (16, 14, 512)
    assert config.response_limit == 7168
    assert config.divergence_range == (2, 2)
    assert config.sampling.temperature == 1.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (2, 2)),
        ({"branching": 4}, (4, 4)),
        ({"branching": 32}, (16, 16)),
        ({"branching": 1}, (16, 16)),
        ({"initial_divergence": 5}, (5, 5)),
        ({"initial_divergence": (2, 8)}, (2, 8)),
        ({"initial_divergence": [2, 8]}, (2, 8)),
    ],
)
def test_initial_divergence(values: dict[str, object], expected: tuple[int, int]) -> None:
    assert RolloutConfig(**values).divergence_range == expected  # type: ignore[arg-type]  # table


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "rollout.width=0"),
        ({"max_segments": 0}, "rollout.max_segments=0"),
        ({"segment_length": -4}, "rollout.segment_length=-4"),
        ({"branching": 0}, "rollout.branching=0"),
        ({"initial_divergence": 0}, "rollout.initial_divergence=0 must have 1 <= low"),
        ({"initial_divergence": 17}, "rollout.initial_divergence=17 exceeds rollout.width=16"),
        ({"initial_divergence": (2, 17)}, r"rollout.initial_divergence=\(2, 17\) exceeds .*=16"),
        ({"initial_divergence": (3, 2)}, "low <= high"),
        ({"initial_divergence": (1, 2, 3)}, r"must be a number or \[low, high\]"),
        ({"max_response_tokens": 0}, r"max_response_tokens=0 is outside \[1, 7168\]"),
        ({"max_response_tokens": 7169}, r"max_response_tokens=7169 is outside \[1, 7168\]"),
        ({"branch_policy": ""}, "rollout.branch_policy is empty"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_k": -1}, "top_k=-1"),
        ({"min_p": 1.0}, "min_p=1.0"),
    ],
)
def test_bad_values_are_refused_with_their_numbers(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RolloutConfig(**values)  # type: ignore[arg-type]  # wrong on purpose


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt 'q1' has no tokens"):
        PromptTask(prompt_id="q1", token_ids=[], example={})
