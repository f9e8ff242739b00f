"""Entropy-adaptive decoding against its worked numbers."""

import pytest

from inference.speculative.entropy_router import (
    EntropyRouter,
    EntropyRouterConfig,
    ModelSize,
    RoutingCosts,
    active_params,
    threshold_for_share,
)

ENTROPIES = [0.05, 0.10, 0.20, 1.60, 2.10, 1.90, 0.90, 0.15]
ENTROPIES += [0.10, 0.05, 0.05, 0.02, 1.20, 0.30, 0.05, 0.05]
MEANS = [0.05, 0.075, 0.1167, 0.4875, 1.0, 1.45, 1.625, 1.2625]
MEANS += [0.7625, 0.3, 0.0875, 0.055, 0.33, 0.3925, 0.3925, 0.4]
CONFIG = EntropyRouterConfig(threshold=0.8, window=4, min_run=3)


def routed(config: EntropyRouterConfig) -> tuple[list[ModelSize], list[float], EntropyRouter]:
    router = EntropyRouter(config)
    writers, means = [], []
    for entropy in ENTROPIES:
        writers.append(router.active)
        router.emitted(entropy)
        means.append(router.rolling_entropy)
    return writers, means, router


def test_tokens_5_to_8_come_from_the_large_model() -> None:
    writers, means, router = routed(CONFIG)
    assert [i for i, writer in enumerate(writers) if writer is ModelSize.LARGE] == [5, 6, 7, 8]
    assert means == pytest.approx(MEANS, abs=6e-5)
    assert router.num_switches == 2


def test_costs_are_the_computed_ones() -> None:
    costs = RoutingCosts(prompt_tokens=1)
    for writer in routed(CONFIG)[0]:
        costs.emit(writer)
    assert costs.large_frac == 0.25
    assert costs.ingested == {ModelSize.SMALL: 16, ModelSize.LARGE: 9}
    assert costs.flops_ratio(small=1.5, large=14) == pytest.approx(150 / 224)
    assert 1.0 - costs.active_params(small=1.5, large=14) / 14 == pytest.approx(0.669643, abs=6e-7)
    # large: prompt and 5 tokens in one chunk, of which the newest is no catch-up; small: 5 tokens
    assert costs.catch_up_tokens == 5 + 4


def test_one_large_token_at_the_end_costs_more_than_the_large_model_alone() -> None:
    late = RoutingCosts(prompt_tokens=1)
    for writer in [ModelSize.SMALL] * 15 + [ModelSize.LARGE]:
        late.emit(writer)
    assert late.flops_ratio(small=1.5, large=14) == pytest.approx((14 * 16 + 1.5 * 15) / 224)


def test_published_savings_count_active_parameters_only() -> None:
    assert 1.0 - active_params(0.43, small=3, large=11) / 11 == pytest.approx(0.414545, abs=6e-7)
    assert 1.0 - active_params(0.25, small=1.5, large=14) / 14 == pytest.approx(0.669643, abs=6e-7)


def test_a_run_is_at_least_as_long_as_asked() -> None:
    router = EntropyRouter(EntropyRouterConfig(threshold=0.5, window=1, min_run=3))
    found = [router.emitted(entropy) for entropy in (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)]
    small, large = ModelSize.SMALL, ModelSize.LARGE
    assert found == [small, small, large, large, large, small]


def test_hysteresis_keeps_the_large_model_between_the_bounds() -> None:
    config = EntropyRouterConfig(threshold=0.8, threshold_down=0.2, window=1, min_run=1)
    router = EntropyRouter(config)
    found = [router.emitted(entropy) for entropy in (0.5, 0.9, 0.5, 0.2, 0.5)]
    small, large = ModelSize.SMALL, ModelSize.LARGE
    assert found == [small, large, large, small, small]


def test_the_threshold_is_the_quantile_of_the_wanted_share() -> None:
    means = [i / 100 for i in range(101)]
    threshold = threshold_for_share(means, 0.25)
    assert threshold == pytest.approx(0.75)
    assert sum(mean > threshold for mean in means) == 25


def test_one_model_alone_needs_no_catch_up() -> None:
    costs = RoutingCosts(prompt_tokens=10)
    for _ in range(5):
        costs.emit(ModelSize.LARGE)
    assert costs.catch_up_tokens == 0
    assert costs.flops_ratio(small=1, large=9) == 1.0


@pytest.mark.parametrize("wrong", [{"window": 0}, {"min_run": 0}, {"threshold_down": 2.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EntropyRouterConfig(threshold=1.0, **wrong)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="large_frac"):
        threshold_for_share([], 0.5)
