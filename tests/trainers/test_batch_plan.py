from dataclasses import replace
from fractions import Fraction

import pytest

from trainers.batch_plan import TRAINER_DEFAULTS, BatchPlan


def plan(b: int, w: int, a: int, s: int, mu: int, g: int, num_prompts: int = 1000) -> BatchPlan:
    return BatchPlan(
        per_device_train_batch_size=b,
        num_processes=w,
        steps_per_generation=s,
        gradient_accumulation_steps=a,
        num_iterations=mu,
        num_generations=g,
        num_prompts=num_prompts,
    )


# Measured with TRL 1.16: b, W, A, S, mu, G -> rows, prompts, updates, old log-probs, groups whole.
TABLE = [
    ((4, 1, 2, 2, 1, 4), (8, 2, 1, False, True)),
    ((4, 2, 2, 2, 1, 4), (16, 4, 1, False, True)),
    ((4, 1, 2, 2, 2, 4), (8, 2, 2, True, True)),
    ((4, 1, 1, 2, 1, 4), (8, 2, 2, True, True)),
    ((1, 2, 2, 2, 1, 4), (4, 1, 1, False, False)),
    ((8, 4, 2, 32, 1, 16), (1024, 64, 16, True, True)),
]


@pytest.mark.parametrize(("given", "expected"), TABLE)
def test_the_arithmetic_is_that_of_trl(
    given: tuple[int, int, int, int, int, int], expected: tuple[int, int, int, bool, bool]
) -> None:
    p = plan(*given)
    assert expected == (
        p.rows,
        p.prompts_per_rollout,
        p.updates_per_rollout,
        p.has_old_logprobs,
        p.groups_are_whole,
    )


def test_groups_are_whole_exactly_if_no_group_lies_on_two_ranks() -> None:
    for b in range(1, 7):
        for s in range(1, 7):
            for g in range(2, 9):
                p = plan(b, 2, 1, s, 1, g)
                if p.rows % g == 0:
                    ranks = [
                        {row // (b * s) for row in range(i, i + g)} for i in range(0, p.rows, g)
                    ]
                    assert p.groups_are_whole == all(len(group) == 1 for group in ranks)


def test_old_logprobs_are_computed_exactly_if_an_update_uses_changed_weights() -> None:
    for a in range(1, 9):
        for s in range(1, 9):
            p = plan(4, 1, a, s, 1, 4)
            # The first forward of a rollout batch may lie inside an accumulation window (a % s).
            assert p.has_old_logprobs == (a % s != 0)
            if p.updates_per_rollout > 1:
                assert p.has_old_logprobs


def test_totals_over_epochs_leave_out_prompts_that_do_not_fill_a_rollout_batch() -> None:
    p = replace(plan(4, 1, 1, 2, 1, 4, num_prompts=11), num_train_epochs=3.0)
    assert p.rollouts_per_epoch == 5
    assert p.num_updates == 3 * 5 * 2
    assert p.num_rollouts == 15
    assert p.visits_per_prompt == pytest.approx(30 / 11)


def test_max_steps_wins_over_epochs() -> None:
    p = replace(plan(4, 1, 1, 2, 1, 4, num_prompts=10), num_train_epochs=3.0, max_steps=7)
    assert (p.num_updates, p.num_rollouts) == (7, 4)
    assert p.visits_per_prompt == pytest.approx(4 * 2 / 10)


def test_one_update_may_span_two_rollout_batches() -> None:
    p = replace(plan(4, 1, 2, 1, 1, 4, num_prompts=10), max_steps=5)
    assert p.updates_per_rollout == Fraction(1, 2)
    assert p.num_rollouts == 10
    assert not p.has_old_logprobs


@pytest.mark.parametrize(
    ("bad", "parts"),
    [
        (
            plan(1, 2, 2, 2, 1, 4),
            [
                "the 2 rows of a process split the groups of rollout.width=4",
                "steps_per_generation=4",
            ],
        ),
        (
            plan(3, 1, 1, 1, 1, 4),
            [
                "the 3 rows of a rollout batch are not a multiple of rollout.width=4",
                "steps_per_generation=4 (now 1)",
            ],
        ),
        (
            plan(6, 1, 1, 3, 1, 4),
            ["the 18 rows", "rollout.width=4", "steps_per_generation=4 (now 3)"],
        ),
        (plan(4, 1, 1, 2, 1, 4, num_prompts=1), ["num_prompts=1", "fewer than the 2 prompts"]),
        (plan(4, 1, 1, 2, 1, 1), ["rollout.width=1", "use at least 2"]),
        (plan(4, 1, 0, 2, 1, 4), ["trainer.gradient_accumulation_steps=0 must be at least 1"]),
    ],
)
def test_a_plan_that_would_fail_later_is_refused_with_numbers_and_a_fix(
    bad: BatchPlan, parts: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        bad.check()
    assert [part for part in parts if part not in str(caught.value)] == []


def test_the_advised_steps_per_generation_is_accepted() -> None:
    for b in range(1, 9):
        for s in range(1, 9):
            for g in range(2, 9):
                bad = plan(b, 2, 1, s, 1, g)
                if not bad.groups_are_whole:
                    with pytest.raises(ValueError, match="steps_per_generation=") as caught:
                        bad.check()
                    advised = int(str(caught.value).split("steps_per_generation=")[1].split()[0])
                    assert advised > s
                    replace(bad, steps_per_generation=advised).check()


@pytest.mark.parametrize(
    "good",
    [
        plan(4, 1, 1, 2, 1, 4, num_prompts=2),
    ],
)
def test_a_good_plan_passes(good: BatchPlan) -> None:
    good.check()


def test_one_update_per_rollout_batch_is_warned_about() -> None:
    inert = replace(plan(4, 1, 2, 2, 1, 4, num_prompts=4), num_train_epochs=5.0)
    assert len(inert.warnings()) == 1
    assert (
        "every clip rule is inert; raise trainer.steps_per_generation above 2"
        in inert.warnings()[0]
    )
    assert replace(inert, steps_per_generation=4).warnings() == []


def test_prompts_that_never_come_back_are_warned_about() -> None:
    once = replace(plan(4, 1, 1, 2, 1, 4, num_prompts=10), num_train_epochs=1.0)
    assert len(once.warnings()) == 1
    assert "no prompt comes back" in once.warnings()[0]
    assert replace(once, num_train_epochs=2.0).warnings() == []
    assert replace(once, max_steps=11).warnings() == []
    assert len(replace(once, max_steps=10).warnings()) == 1


def test_the_description_holds_every_figure_and_the_warnings() -> None:
    text = replace(plan(8, 4, 2, 32, 1, 16, num_prompts=640), max_steps=100).describe()
    for part in (
        "1024 = 8 rows x 4 processes x 32 steps",
        "64 x 16 responses",
        "updates per rollout batch  16",
        "10 of 640 prompts",
        "100 updates, 7 rollout batches",
        "0.70",
        "computed",
        "warning: no prompt comes back",
    ):
        assert part in text


def test_a_plan_is_made_from_the_trainer_section() -> None:
    trainer = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_steps": 10,
    }
    made = BatchPlan.from_trainer(trainer, num_processes=2, num_generations=4, num_prompts=9)
    expected = replace(plan(4, 2, 2, 2, 1, 4, num_prompts=9), max_steps=10, num_train_epochs=3.0)
    assert made == expected
    assert made.prompts_per_process == 2


def test_the_defaults_are_those_of_trl() -> None:
    import dataclasses

    from trl import GRPOConfig

    fields = {item.name: item.default for item in dataclasses.fields(GRPOConfig)}
    assert {name: fields[name] for name in TRAINER_DEFAULTS} == TRAINER_DEFAULTS
