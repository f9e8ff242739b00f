"""How many environment steps per second does the WebShop simulator make, and how fast does it judge?

    OMP_NUM_THREADS=1 python -m benches.webshop [--products 2000] [--episodes 300] [--repetitions 5]

Scripted episodes (search, open, up to two options, buy; a sub page in between), one process, one
thread. Every repetition shops for other goals, because the index remembers searches; warm-up: ten
episodes. One JSON object on standard output: counted quantities first (exact), wall-clock second
(information only). Ideal value of the success share: 1, every goal can be solved; the script misses
those whose product is not on the pages it may visit within the step limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version

from rewards.base import Sample
from rewards.batch import score_batch
from rewards.webshop.catalogue import catalogue_from_raw
from rewards.webshop.config import ShopConfig
from rewards.webshop.generator import generate
from rewards.webshop.goals import Goal
from rewards.webshop.open_shop import shop_for
from rewards.webshop.shop import Shop
from rewards.webshop.state import ShopState, state_from_json, state_to_json
from rewards.webshop_goal import WebshopGoal, WebshopGoalConfig

WARM_UP = 10


def shopping(shop: Shop, goal: Goal) -> Iterator[tuple[str, ShopState]]:
    """Actions of a scripted episode with the state after each."""
    state = shop.start(goal)
    plan = [f"search[{goal.query} {' '.join(goal.attributes)}]"]
    while plan and not state.is_done:
        action = plan.pop(0)
        state = shop.step(state, action).state
        yield action, state
        if not plan and not state.asin:
            plan = _next_actions(shop, state)


def _next_actions(shop: Shop, state: ShopState) -> list[str]:
    """Open the target when it is on the page, else turn the page."""
    goal = state.goal
    if goal.asin.lower() not in shop.admissible(state).clickables:
        return ["click[next >]"]
    names = (goal.asin, "features", "< prev", *goal.options, "buy now")
    return [f"click[{name}]" for name in names]


def main() -> None:
    """Runs the episodes and prints the JSON report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--products", type=int, default=2000)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    config = ShopConfig(num_products=arguments.products)
    seconds = _seconds(lambda: catalogue_from_raw(generate(arguments.products)))
    shop = shop_for(config)
    for goal in shop.catalogue.goals[:WARM_UP]:
        list(shopping(shop, goal))
    size = arguments.episodes
    batches = [
        shop.catalogue.goals[WARM_UP + i * size : WARM_UP + (i + 1) * size]
        for i in range(arguments.repetitions)
    ]
    report = measure(shop, config, [batch for batch in batches if batch])
    print(json.dumps(report | {"generate_s": seconds} | environment(arguments.products), indent=2))


def measure(shop: Shop, config: ShopConfig, batches: Sequence[Sequence[Goal]]) -> dict[str, object]:
    """Counts on all batches; rates per batch."""
    step_rates, snapshot_rates, judge_rates, finals = [], [], [], []
    for goals in batches:
        start = time.perf_counter()
        episodes = [list(shopping(shop, goal)) for goal in goals]
        step_rates.append(sum(map(len, episodes)) / (time.perf_counter() - start))
        states = [state for episode in episodes for _, state in episode]
        snapshot_rates.append(len(states) / _seconds(partial(_round_trips, states)))
        samples = [_sample(goal, episode) for goal, episode in zip(goals, episodes, strict=True)]
        reward = WebshopGoal(WebshopGoalConfig(shop=config))
        judge_rates.append(len(samples) / _seconds(partial(score_batch, reward, samples)))
        finals += [(episode[-1][1], len(episode)) for episode in episodes]
    return {
        "num_episodes": len(finals),
        "success_frac": sum(state.reward == 1 for state, _ in finals) / len(finals),
        "steps_per_episode": sum(length for _, length in finals) / len(finals),
        "steps_per_s": _summary(step_rates),
        "json_round_trips_per_s": _summary(snapshot_rates),
        "judged_transcripts_per_s": _summary(judge_rates),
    }


def environment(num_products: int) -> dict[str, object]:
    """What the numbers depend on."""
    return {
        "num_products": num_products,
        "num_cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "bm25s": version("bm25s"),
        "rapidfuzz": version("rapidfuzz"),
    }


def _sample(goal: Goal, episode: Sequence[tuple[str, ShopState]]) -> Sample:
    text = "".join(f"<action>{action}</action>\n" for action, _ in episode)
    return Sample(completion=text, reference={"goal": goal.id})


def _round_trips(states: Sequence[ShopState]) -> None:
    for state in states:
        state_from_json(state_to_json(state))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _summary(rates: list[float]) -> dict[str, float]:
    return {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}


if __name__ == "__main__":
    main()
