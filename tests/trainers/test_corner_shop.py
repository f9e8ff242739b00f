"""The shopping task: its catalogue, its goals, its demonstrations."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from rewards.base import Sample, Verdict
from rewards.webshop.catalogue import write_files
from rewards.webshop.config import ShopConfig
from rewards.webshop.simulator import ShopSimulator
from rewards.webshop_goal import WebshopGoal, WebshopGoalConfig
from rollout.envs.webshop import WebShop, WebShopConfig
from trainers.tasks import corner_shop
from trainers.tasks.base import Demonstration, load_task
from trainers.tasks.char_tokenizer import char_tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "data" / "corner_shop"
# fields of ShopConfig
SHOP: dict[str, Any] = {"source": "files", "folder": str(FOLDER), "num_products": 0}
CAREFUL = {"vague_prob": 0.0, "hurried_prob": 0.0, "malformed_prob": 0.0}


def text_of(demonstration: Demonstration) -> str:
    return "".join(piece.text for piece in demonstration.pieces)


def verdict(demonstration: Demonstration) -> Verdict:
    goals = [*corner_shop.goals("train"), *corner_shop.goals("heldout")]
    goal = next(goal for goal in goals if goal.instruction == demonstration.prompt)
    judge = WebshopGoal(WebshopGoalConfig(shop=ShopConfig(**SHOP)))
    return judge.score(
        Sample(completion=text_of(demonstration), reference={"goal": goal.id})
    ).verdict


def test_the_shipped_catalogue_is_the_generated_one(tmp_path: Path) -> None:
    write_files(corner_shop.raw_files(), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in FOLDER.iterdir())
    assert all((tmp_path / name).read_bytes() == (FOLDER / name).read_bytes() for name in names)


def test_no_goal_is_in_both_splits() -> None:
    train, heldout = (
        {goal.id for goal in corner_shop.goals(part)} for part in ("train", "heldout")
    )
    assert not train & heldout
    assert (len(train), len(heldout)) == (97, 38)


def test_a_careful_shopper_always_succeeds() -> None:
    """Also a proof that the demonstrated pages are the simulator's: the reward checks them."""
    task, rng = load_task("corner_shop", CAREFUL), random.Random(3)
    found = {verdict(task.demonstration(rng, is_mixed=True)) for _ in range(60)}
    assert found == {Verdict.CORRECT}


@pytest.mark.parametrize("habit", ["vague_prob", "hurried_prob"])
def test_a_bad_habit_fails(habit: str) -> None:
    task, rng = load_task("corner_shop", CAREFUL | {habit: 1.0}), random.Random(3)
    found = [verdict(task.demonstration(rng, is_mixed=True)) for _ in range(60)]
    assert found.count(Verdict.CORRECT) < 30


def test_pages_are_made_of_known_words_and_fit() -> None:
    task, rng = load_task("corner_shop", {}), random.Random(4)
    tokenizer = char_tokenizer(task.words)
    for _ in range(300):
        demonstration = task.demonstration(rng, is_mixed=True)
        ids = tokenizer(demonstration.prompt + text_of(demonstration))["input_ids"]
        assert len(ids) <= task.num_tokens
        turns = [piece.text for piece in demonstration.pieces if piece.is_written]
        assert max(map(len, tokenizer(turns)["input_ids"])) <= task.num_turn_tokens
    assert tokenizer.unk_token_id not in ids


def test_the_environment_shows_what_the_demonstrations_show() -> None:
    options = WebShopConfig(
        simulator="rewards.webshop.simulator:ShopSimulator",
        settings=SHOP,
    )
    environment = WebShop(options)
    task, rng = load_task("corner_shop", {}), random.Random(6)
    rows = {row["prompt"]: row for row in task.rows("train")}
    for _ in range(10):
        demonstration = task.demonstration(rng, is_mixed=True)
        observation = environment.reset(rows[demonstration.prompt])
        for piece in demonstration.pieces:
            if piece.is_written:
                observation = environment.step(piece.text)
            else:
                assert observation is not None
                assert piece.text == f"\n<observation>{observation.text}</observation>\n"
        assert observation is not None
        assert observation.done


def test_a_session_goes_on_from_a_snapshot() -> None:
    goal = corner_shop.goals("train")[0]
    first, second = ShopSimulator(**SHOP), ShopSimulator(**SHOP)
    first.reset({"goal": goal.id})
    first.step(f"search[{goal.name}]")
    state = first.snapshot()
    opened = first.step(f"click[{goal.asin}]").observation
    second.restore(state)
    assert second.step(f"click[{goal.asin}]").observation == opened


@pytest.mark.parametrize("row", [{}, {"goal": "nowhere"}, {"goal": 3}])
def test_a_row_without_goal_is_refused(row: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="goal"):
        ShopSimulator(**SHOP).reset(row)
