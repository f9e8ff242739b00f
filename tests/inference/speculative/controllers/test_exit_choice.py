"""DEL against its worked numbers."""

import math

import pytest

from inference.speculative.controllers.exit_choice import (
    ExitChoice,
    ExitChoiceConfig,
    ShadowRound,
    best_exit,
    tokens_per_layer,
)

RATES = dict(zip(range(1, 8), (0.35, 0.55, 0.70, 0.78, 0.84, 0.90, 0.95), strict=True))
EIGHT = ExitChoiceConfig(num_layers=8, exit_layers=tuple(range(1, 8)))


def test_the_best_exit_is_the_computed_one() -> None:
    assert best_exit(RATES, EIGHT) == (3, 2)
    row = [tokens_per_layer(0.70, exit_layer=3, length=g, num_layers=8) for g in range(5)]
    assert row == pytest.approx([0.1250, 0.1545, 0.1564, 0.1490, 0.1387], abs=6e-5)
    assert max(row) == pytest.approx(0.156429, abs=6e-7)
    assert max(row) * 8 == pytest.approx(1.2514, abs=6e-5)


@pytest.mark.parametrize(
    ("layer", "rate", "speedups"),
    [
        (1, 0.62, (1, 1.296, 1.335, 1.280, 1.194)),
        (2, 0.86, (1, 1.238, 1.295, 1.287, 1.252)),
        (3, 0.96, (1, 1.119, 1.150, 1.156, 1.150)),
    ],
)
def test_self_drafting_of_four_layers_gains_what_was_computed(
    layer: int, rate: float, speedups: tuple[float, ...]
) -> None:
    found = [4 * tokens_per_layer(rate, exit_layer=layer, length=g, num_layers=4) for g in range(5)]
    assert found == pytest.approx(speedups, abs=9e-3)  # overlaps are given to 0.005


def test_hopeless_layers_mean_plain_decoding() -> None:
    assert best_exit(dict.fromkeys(RATES, 0.0), EIGHT) == (1, 0)


def test_a_dear_head_makes_drafts_shorter() -> None:
    dear = ExitChoiceConfig(num_layers=8, exit_layers=EIGHT.exit_layers, head_cost=8.0)
    assert best_exit({3: 0.7}, EIGHT) == (3, 2)
    assert best_exit({3: 0.7}, dear) == (3, 1)


TWO = ExitChoiceConfig(num_layers=8, exit_layers=(2, 4), decay=0.5)


def test_an_unknown_layer_is_tried_first() -> None:
    choice = ExitChoice(TWO)
    assert choice.plan().exit_layer == 2
    choice.observe({2: ShadowRound((1.0,), (0.9,))})
    assert math.isnan(choice.rates()[4])
    assert choice.plan().exit_layer == 4
    assert choice.plan().controller.length == 1


def test_the_first_round_drafts_one_token_then_as_many_as_pay() -> None:
    choice = ExitChoice(TWO)
    good, bad = ShadowRound((1.0,) * 32, (0.9,) * 32), ShadowRound((0.0,) * 32, (0.2,) * 32)
    choice.observe({2: good, 4: bad})
    assert (choice.plan().exit_layer, choice.plan().controller.length) == (2, 1)
    choice.observe({2: good, 4: bad})
    assert (choice.plan().exit_layer, choice.plan().controller.length) == (2, 17)


def test_statistics_decay_and_the_threshold_is_half_way_between_the_means() -> None:
    choice = ExitChoice(TWO)
    choice.observe({2: ShadowRound((1.0, 0.0), (0.9, 0.5)), 4: ShadowRound((0.0,), (0.1,))})
    choice.observe({2: ShadowRound((1.0, 1.0), (0.6, 0.9)), 4: ShadowRound((0.0,), (0.1,))})
    assert choice.rates()[2] == pytest.approx((0.5 + 2.0) / (1.0 + 2.0))
    matched = (0.5 * 0.9 + 0.6 + 0.9) / 2.5
    missed = 0.5
    assert choice.plan().exit_layer == 2
    assert choice.plan().controller.stop_below == pytest.approx((matched + missed) / 2)


def test_overlaps_count_as_fractional_matches() -> None:
    choice = ExitChoice(TWO)
    choice.observe({2: ShadowRound((0.8, 0.6), (0.5, 0.5)), 4: ShadowRound((0.1,), (0.5,))})
    assert choice.rates() == pytest.approx({2: 0.7, 4: 0.1})


def test_a_reset_forgets_everything() -> None:
    choice = ExitChoice(TWO)
    choice.observe({2: ShadowRound((1.0,), (0.9,)), 4: ShadowRound((1.0,), (0.9,))})
    choice.reset()
    assert all(math.isnan(rate) for rate in choice.rates().values())


@pytest.mark.parametrize(
    "wrong", [{"exit_layers": ()}, {"exit_layers": (8,)}, {"decay": 0.0}, {"max_length": 1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    values: dict[str, object] = {"num_layers": 8, "exit_layers": (2,), **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExitChoiceConfig(**values)  # type: ignore[arg-type]  # wrong on purpose
