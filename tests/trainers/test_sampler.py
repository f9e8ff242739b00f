from __future__ import annotations

from trl.trainer.utils import RepeatSampler

from trainers.sampler import EpochRepeatSampler


def make(
    num: int = 7, *, seed: int = 3, repeats: int = 2, shuffle: bool = True
) -> EpochRepeatSampler:
    return EpochRepeatSampler(
        range(num), group_size=2, batch_size=3, repeats=repeats, shuffle=shuffle, seed=seed
    )


def test_unshuffled_order_equals_the_one_of_trl() -> None:
    theirs = RepeatSampler(
        list(range(7)), mini_repeat_count=2, batch_size=3, repeat_count=2, shuffle=False
    )
    assert list(make(shuffle=False)) == list(theirs)


def test_length_counts_the_yielded_indices() -> None:
    sampler = make()
    assert len(list(sampler)) == len(sampler) == 2 * 3 * 2 * 2


def test_each_group_stands_together_and_each_batch_comes_back() -> None:
    order = list(make())
    batches = [order[i : i + 6] for i in range(0, len(order), 6)]
    assert batches[0] == batches[1]
    assert batches[2] == batches[3]
    assert all(batch[0::2] == batch[1::2] for batch in batches)


def test_order_of_an_epoch_does_not_depend_on_earlier_epochs() -> None:
    straight = make()
    first = list(straight)
    straight.set_epoch(1)
    second = list(straight)
    resumed = make()
    resumed.set_epoch(1)
    assert list(resumed) == second
    assert first != second


def test_seed_changes_the_order() -> None:
    assert list(make(seed=3)) != list(make(seed=4))


def test_prompts_that_do_not_fill_the_last_batch_are_dropped() -> None:
    assert len(set(make(num=7))) == 6
