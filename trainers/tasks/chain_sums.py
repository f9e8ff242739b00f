r"""Chained sums modulo 100: an embedded task with several reasoning steps and no download.

    prompt    97+08-09+05=
    stepwise  97+08=05;05-09=96;96+05=01;\boxed{01}
    direct    \boxed{01}

The first number is 0..99, the others are 0..`max_addend`. Every number is written with two digits,
so with the tokenizer of `char_tokenizer.py` a step is `STEP_TOKENS` tokens: one segment of a rollout
tree. The splits are disjoint by construction: a hash of the prompt decides which of the two a
problem may appear in, whatever the sizes and the seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

from trainers.tasks.base import (
    Demonstration,
    Piece,
    Respond,
    Row,
    Split,
    check_probabilities,
    split_of,
)

MODULUS = 100
STEP_TOKENS = 9
"""Tokens of one step, `47+85=32;`."""
_HELDOUT_ONE_IN = 8
"""One problem in this many belongs to the held-out split."""


@dataclass(slots=True, kw_only=True)
class ChainSumsConfig:
    """Sizes of the embedded task; nested under `data.chain_sums` of a recipe."""

    num_terms: int = 4
    """Numbers per problem, at least 2; a full derivation has one step less."""
    max_addend: int = 9
    """Largest number after the first, 1..99; 9 is much easier to learn than 99."""
    train_size: int = 256
    """Problems of the training split."""
    heldout_size: int = 256
    """Problems of the held-out split."""
    seed: int = 0
    """Chooses the problems; the split of a problem does not depend on it."""

    def __post_init__(self) -> None:
        if not 2 <= self.num_terms <= 12:
            raise ValueError(f"num_terms={self.num_terms} is outside 2..12; use 3 to 6")
        if not 1 <= self.max_addend < MODULUS:
            raise ValueError(f"max_addend={self.max_addend} is outside 1..{MODULUS - 1}; use 9")
        num_problems = MODULUS * (2 * self.max_addend + 2) ** (self.num_terms - 1)
        _check_size("train_size", self.train_size, num_problems // 2)
        _check_size("heldout_size", self.heldout_size, num_problems // (2 * _HELDOUT_ONE_IN))


@dataclass(frozen=True, slots=True)
class ChainSum:
    """One problem: `terms[0] operators[0] terms[1] ...`, evaluated from left to right modulo 100."""

    terms: tuple[int, ...]
    """Numbers in 0..99, the starting value first."""
    operators: str
    """One `+` or `-` between each two terms."""

    @property
    def prompt(self) -> str:
        """The problem as text, with the final `=`."""
        rest = (f"{op}{term:02d}" for op, term in zip(self.operators, self.terms[1:], strict=True))
        return f"{self.terms[0]:02d}{''.join(rest)}="

    @property
    def steps(self) -> tuple[str, ...]:
        """The derivation, one text like `47+85=32;` per operator."""
        texts, total = [], self.terms[0]
        for op, term in zip(self.operators, self.terms[1:], strict=True):
            value = (total + term if op == "+" else total - term) % MODULUS
            texts.append(f"{total:02d}{op}{term:02d}={value:02d};")
            total = value
        return tuple(texts)

    @property
    def answer(self) -> str:
        """The result as two digits."""
        return self.steps[-1][-3:-1]

    @property
    def split(self) -> Split:
        """The only split in which this problem may appear."""
        return split_of(self.prompt, _HELDOUT_ONE_IN)


@dataclass(slots=True, kw_only=True)
class DemonstrationMix:
    """How often the demonstrations of the warm start take which form."""

    direct_prob: float = 0.6
    """Probability of answering at once, without a step."""
    quit_prob: float = 0.0
    """Probability, after each step but the last, of giving the answer without the other steps."""
    malformed_prob: float = 0.03
    """Probability that the closing brace of the box is missing."""

    def __post_init__(self) -> None:
        check_probabilities(self)


DERIVATIONS = DemonstrationMix(direct_prob=0.0, quit_prob=0.0, malformed_prob=0.0)
"""Exemplary: every step."""


class ChainSums:
    """The task with sizes and habits; see the module docstring."""

    title = "chained sums modulo 100"
    recipe = "dcpo"
    warmstart = "warmstart"
    words = (r"\boxed{",)

    def __init__(self, mix: DemonstrationMix, config: ChainSumsConfig) -> None:
        self._mix = mix
        self._config = config
        self.num_turn_tokens = STEP_TOKENS * config.num_terms
        self.num_tokens = config.num_terms * (3 + STEP_TOKENS) + 8

    def rows(self, split: Split) -> list[Row]:
        """The problems of a split."""
        return chain_sum_rows(self._config, split)

    def demonstration(self, rng: random.Random, *, is_mixed: bool) -> Demonstration:
        """Draws a problem and a derivation, or one of the forms of the mix."""
        chain = next(chains(self._config, "train", rng))
        text = demonstration(chain, self._mix if is_mixed else DERIVATIONS, rng)
        return Demonstration(chain.prompt, (Piece(text),))

    def figures(self, respond: Respond) -> dict[str, float]:
        """Accuracies, and the forms of the samples."""
        rows = self.rows("heldout")
        endings = [rf"\boxed{{{row['answer']}}}" for row in rows]
        prompts = [str(row["prompt"]) for row in rows]
        greedy, sampled = respond(prompts, False), respond(prompts, True)
        num_steps = self._config.num_terms - 1
        return {
            "accuracy, greedy": fmean(map(str.endswith, greedy, endings)),
            "accuracy, one sample at temperature 1": fmean(map(str.endswith, sampled, endings)),
            "samples with all steps": fmean(text.count(";") == num_steps for text in sampled),
            "malformed samples": fmean(not text.endswith("}") for text in sampled),
        }

    def example(self) -> str:
        """A held-out problem in both forms."""
        chain = next(chains(self._config, "heldout", random.Random(0)))
        answer = rf"\boxed{{{chain.answer}}}"
        steps = "".join(chain.steps) + answer
        return f"prompt    {chain.prompt}\nstepwise  {steps}\ndirect    {answer}"


TASK = ChainSums
MIX = DemonstrationMix


def draw_chain(rng: random.Random, config: ChainSumsConfig) -> ChainSum:
    """Draws one problem, uniform over terms and operators, of either split."""
    addends = [rng.randint(0, config.max_addend) for _ in range(config.num_terms - 1)]
    operators = "".join(rng.choice("+-") for _ in addends)
    return ChainSum((rng.randrange(MODULUS), *addends), operators)


def chains(config: ChainSumsConfig, split: Split, rng: random.Random) -> Iterator[ChainSum]:
    """Endless problems of one split; they may repeat."""
    while True:
        chain = draw_chain(rng, config)
        if chain.split == split:
            yield chain


def chain_sum_rows(config: ChainSumsConfig, split: Split) -> list[Row]:
    """The distinct problems of a split as data-set rows.

    Returns:
        Rows with id, prompt, answer, terms and operators. A larger size starts with the same rows.
    """
    size = config.train_size if split == "train" else config.heldout_size
    rng = random.Random(f"chain_sums/{split}/{config.seed}")
    return [_row(chain) for chain in islice(_distinct(chains(config, split, rng)), size)]


def demonstration(chain: ChainSum, mix: DemonstrationMix, rng: random.Random) -> str:
    """Draws a response to a problem: right steps and right answer in one of the forms of `mix`."""
    num_steps = 0
    if rng.random() >= mix.direct_prob:
        num_steps = 1
        while num_steps < len(chain.steps) and rng.random() >= mix.quit_prob:
            num_steps += 1
    end = "" if rng.random() < mix.malformed_prob else "}"
    return "".join(chain.steps[:num_steps]) + rf"\boxed{{{chain.answer}{end}"


def _distinct(problems: Iterator[ChainSum]) -> Iterator[ChainSum]:
    seen: set[ChainSum] = set()
    for chain in problems:
        if chain not in seen:
            seen.add(chain)
            yield chain


def _row(chain: ChainSum) -> Row:
    return {
        "id": chain.prompt[:-1],
        "prompt": chain.prompt,
        "answer": chain.answer,
        "terms": list(chain.terms),
        "operators": chain.operators,
    }


def _check_size(name: str, size: int, most: int) -> None:
    if not 1 <= size <= most:
        raise ValueError(f"{name}={size} is outside 1..{most} for this num_terms and max_addend")
