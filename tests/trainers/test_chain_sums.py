import random
import re
from itertools import islice

import pytest

from trainers.tasks.chain_sums import (
    STEP_TOKENS,
    ChainSum,
    ChainSumsConfig,
    DemonstrationMix,
    chain_sum_rows,
    chains,
    demonstration,
)
from trainers.tasks.char_tokenizer import char_tokenizer

EXAMPLE = ChainSum((97, 8, 9, 5), "+-+")


def _evaluated(expression: str) -> int:
    """The value of `47+08-09`, by regular expression: plain addition, one modulo at the end."""
    return sum(int(number) for number in re.findall(r"[+-]?\d+", expression)) % 100


def test_the_documented_example() -> None:
    assert EXAMPLE.prompt == "97+08-09+05="
    assert EXAMPLE.steps == ("97+08=05;", "05-09=96;", "96+05=01;")
    assert EXAMPLE.answer == "01"


@pytest.mark.parametrize("num_terms", [2, 4, 7])
def test_answers_and_steps_agree_with_plain_arithmetic(num_terms: int) -> None:
    config = ChainSumsConfig(num_terms=num_terms, max_addend=99)
    for chain in islice(chains(config, "train", random.Random(0)), 500):
        assert int(chain.answer) == _evaluated(chain.prompt[:-1])
        for step in chain.steps:
            left, right = step.rstrip(";").split("=")
            assert int(right) == _evaluated(left)


def test_each_step_starts_with_the_result_of_the_one_before() -> None:
    for chain in islice(chains(ChainSumsConfig(num_terms=6), "train", random.Random(1)), 200):
        results = [step[-3:-1] for step in chain.steps]
        assert [step[:2] for step in chain.steps] == [chain.prompt[:2], *results[:-1]]


def test_a_step_is_one_segment_of_the_tokenizer() -> None:
    lengths = {len(char_tokenizer()(step)["input_ids"]) for step in EXAMPLE.steps}
    assert lengths == {STEP_TOKENS}


def test_the_splits_are_disjoint_for_any_sizes_and_seeds() -> None:
    train = ChainSumsConfig(num_terms=3, train_size=15_000, seed=0)
    other = ChainSumsConfig(num_terms=3, heldout_size=2_400, seed=1)
    trained = {row["prompt"] for row in chain_sum_rows(train, "train")}
    heldout = {row["prompt"] for row in chain_sum_rows(other, "heldout")}
    assert len(trained) == 15_000
    assert len(heldout) == 2_400
    assert trained & heldout == set()


def test_demonstrations_never_show_a_heldout_problem() -> None:
    config = ChainSumsConfig(num_terms=3, heldout_size=2_400)
    heldout = {row["prompt"] for row in chain_sum_rows(config, "heldout")}
    shown = {chain.prompt for chain in islice(chains(config, "train", random.Random(5)), 20_000)}
    assert shown & heldout == set()


def test_a_larger_split_starts_with_the_same_rows() -> None:
    few = chain_sum_rows(ChainSumsConfig(train_size=10), "train")
    many = chain_sum_rows(ChainSumsConfig(train_size=40), "train")
    assert many[:10] == few


def test_rows_have_unique_ids_and_text_answers() -> None:
    rows = chain_sum_rows(ChainSumsConfig(), "heldout")
    assert len({row["id"] for row in rows}) == len(rows) == 256
    assert all(re.fullmatch(r"\d\d", str(row["answer"])) for row in rows)
    assert set(rows[0]) == {"id", "prompt", "answer", "terms", "operators"}


@pytest.mark.parametrize(
    ("mix", "response"),
    [
        (DemonstrationMix(direct_prob=1.0, malformed_prob=0.0), r"\boxed{01}"),
        (DemonstrationMix(direct_prob=1.0, malformed_prob=1.0), r"\boxed{01"),
        (
            DemonstrationMix(direct_prob=0.0, quit_prob=0.0, malformed_prob=0.0),
            r"97+08=05;05-09=96;96+05=01;\boxed{01}",
        ),
        (
            DemonstrationMix(direct_prob=0.0, quit_prob=1.0, malformed_prob=0.0),
            r"97+08=05;\boxed{01}",
        ),
    ],
)
def test_extreme_mixes_give_one_form(mix: DemonstrationMix, response: str) -> None:
    assert demonstration(EXAMPLE, mix, random.Random(0)) == response


def test_forms_appear_as_often_as_the_mix_says() -> None:
    mix = DemonstrationMix(direct_prob=0.6, quit_prob=0.25, malformed_prob=0.1)
    rng = random.Random(0)
    texts = [demonstration(EXAMPLE, mix, rng) for _ in range(20_000)]
    expected = {0: 0.6, 1: 0.4 * 0.25, 2: 0.4 * 0.75 * 0.25, 3: 0.4 * 0.75 * 0.75}
    for num_steps, prob in expected.items():
        frac = sum(text.count(";") == num_steps for text in texts) / len(texts)
        assert abs(frac - prob) < 4 * (prob * (1 - prob) / len(texts)) ** 0.5
    malformed = sum(not text.endswith("}") for text in texts) / len(texts)
    assert abs(malformed - 0.1) < 4 * (0.1 * 0.9 / len(texts)) ** 0.5


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_terms": 1}, "num_terms=1"),
        ({"max_addend": 100}, "max_addend=100"),
        ({"train_size": 0}, "train_size=0"),
        ({"num_terms": 2, "heldout_size": 1000}, "heldout_size=1000"),
    ],
)
def test_impossible_sizes_are_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ChainSumsConfig(**settings)


def test_a_probability_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"quit_prob=1\.5"):
        DemonstrationMix(quit_prob=1.5)
