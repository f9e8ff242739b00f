from __future__ import annotations

import json
import math
import pickle
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.base import Sample, Score, Verdict
from rewards.batch import score_batch
from rewards.math_answer import MathAnswer, MathAnswerConfig
from rewards.math_answer_cases import read_case
from rewards.pool import PoolConfig, WorkerPool

ROOT = Path(__file__).resolve().parents[2]
CASES = [
    json.loads(line)
    for line in (ROOT / "tests/data/verifier_cases/math.jsonl").read_text("utf-8").splitlines()
]


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(PoolConfig(num_workers=1)) as pool:
        yield pool


def boxed(answer: str, gold: object, **columns: object) -> Sample:
    completion = rf"The answer is $\boxed{{{answer}}}$."
    return Sample(completion=completion, reference={"answer": gold, **columns})


def quick(answer: str, gold: object, **columns: object) -> Score | None:
    return MathAnswer().quick_score(boxed(answer, gold, **columns))


def is_right(answer: str, gold: object, **columns: object) -> bool:
    score = quick(answer, gold, **columns)
    assert score is not None, f"{answer!r} against {gold!r} should not need algebra"
    return score.verdict is Verdict.CORRECT


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_case_table(case: dict[str, Any], pool: WorkerPool) -> None:
    read = read_case(case, Path())
    (score,) = score_batch(read.reward, [read.sample], pool)
    assert score.value == read.expected, (score, case["note"])


def test_the_case_table_is_complete() -> None:
    assert len(CASES) == 189 and sum(case["cat"] == "dos" for case in CASES) == 14


ATTACKS = [case for case in CASES if case["cat"] == "dos"]


@pytest.mark.parametrize("case", ATTACKS, ids=[case["id"] for case in ATTACKS])
def test_resource_attacks_are_refused_without_algebra_and_at_once(case: dict[str, Any]) -> None:
    start = time.perf_counter()
    score = MathAnswer().quick_score(read_case(case, Path()).sample)
    assert time.perf_counter() - start < 0.2
    assert score is not None and score.value == 0.0


@pytest.mark.parametrize("case", ATTACKS, ids=[case["id"] for case in ATTACKS])
def test_resource_attacks_on_an_expression_are_bounded(
    case: dict[str, Any], pool: WorkerPool
) -> None:
    letters = "".join(sorted({x for x in case["pred"] if x in "wxyz"})) or "x"
    attack = case["pred"] if letters != "x" else f"x+{case['pred']}"
    reward = MathAnswer(MathAnswerConfig(timeout_s=2.0))
    start = time.perf_counter()
    (score,) = score_batch(reward, [boxed(attack, f"{letters}+1")], pool)
    assert time.perf_counter() - start < 10
    assert score.value == 0.0


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\{1,2\}", "2, 1"),
        ("[1,2]", r"1 \le x \le 2"),
        (r"x \ne 3", r"(-\infty,3)\cup(3,\infty)"),
        (r"\text{3:30 p.m.}", "3:30 p.m."),
        ("1,000,000", "10^6"),
        ("1000", "1,000 dollars"),
        ("12 square feet", r"12\text{ ft}^2"),
        ("x=5", "x = 2+3 = 5"),
        (r"\text{undefined}", r"\text{DNE}"),
        (r"\frac{1}{3}", r"33.3333\%"),
        (18.0, "18"),
        (-4, "- 4"),
    ],
)
def test_more_right_answers(gold: object, answer: str) -> None:
    assert is_right(answer, gold)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5", "x=5 or x=6"),
        ("5", "2x = 5"),
        ("(1,100)", "1100"),
        ("(1,2)", "(1,2]"),
        ("[1,2]", r"1 < x \le 2"),
        ("f(x)=2x+3", "g(x)=2x+3"),
        (r"\frac{1}{3}", r"33\%"),
        (r"25\pi\text{ m}^2", r"25\pi\text{ cm}^2"),
        ("18", r"18 \text{ or twenty}"),
        ("2:3", "3:2x"),
        (r"\pi", r"\sum_{k} \pi"),
        ("x=2", "x=2, y=3"),
    ],
)
def test_more_wrong_answers(gold: object, answer: str) -> None:
    assert not is_right(answer, gold)


@pytest.mark.parametrize(
    ("completion", "verdict", "value"),
    [
        (r"\boxed{4}", Verdict.CORRECT, 1.0),
        (r"\boxed{5}", Verdict.WRONG, 0.0),
        ("it is 4", Verdict.NO_ANSWER, -1.0),
        (r"\boxed{4", Verdict.NO_ANSWER, -1.0),
        (r"\boxed{?}", Verdict.UNPARSEABLE, -1.0),
        (r"\boxed{10^{10^{10}}}", Verdict.REJECTED, -1.0),
    ],
)
def test_dcpo_levels_follow_the_verdict(completion: str, verdict: Verdict, value: float) -> None:
    reward = MathAnswer(MathAnswerConfig(value_malformed=-1.0))
    score = reward.score(Sample(completion=completion, reference={"answer": "4"}))
    assert (score.verdict, score.value) == (verdict, value)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"answer": None},
        {"answer": ""},
        {"answer": True},
        {"answer": ["1"]},
        {"answer": "9" * 65},
        {"answer": "1", "kind": "poem"},
        {"answer": "1", "form": "pretty"},
    ],
)
def test_only_the_reference_can_make_the_value_none(columns: dict[str, object]) -> None:
    reward = MathAnswer()
    score = reward.score(Sample(completion=r"\boxed{1}", reference=columns))
    assert score.verdict is Verdict.BAD_REFERENCE and score.value is None
    assert reward.reference_problem(columns) == score.detail != ""


def test_a_good_reference_has_no_problem() -> None:
    assert MathAnswer().reference_problem({"answer": "x+1"}) is None


@pytest.mark.parametrize(
    ("mode", "completion"),
    [
        ("boxed", r"\boxed{42}"),
        ("answer_tag", "<answer>42</answer>"),
        ("gsm8k", "so\n#### 42"),
        ("last_number", "first 41, then 42."),
    ],
)
@pytest.mark.parametrize("gold", ["42", "6 * 7 = <<6*7=42>>42\n#### 42", r"hence \boxed{42}."])
def test_every_extraction_mode_reads_every_form_of_reference(
    mode: Any, completion: str, gold: str
) -> None:
    reward = MathAnswer(MathAnswerConfig(extraction=mode))
    score = reward.score(Sample(completion=completion, reference={"answer": gold}))
    assert score.verdict is Verdict.CORRECT


def test_the_reference_column_can_be_named() -> None:
    reward = MathAnswer(MathAnswerConfig(answer_column="solution"))
    row = {"answer": "5", "solution": "7"}
    assert reward.score(Sample(completion=r"\boxed{7}", reference=row)).value == 1.0


def test_evaluated_off_accepts_what_strict_refuses() -> None:
    sample = boxed(r"\binom{10}{5}", "252")
    assert MathAnswer().score(sample).value == 0.0
    assert MathAnswer(MathAnswerConfig(evaluated="off")).score(sample).value == 1.0


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"extraction": "regex"}, "extraction='regex'"),
        ({"evaluated": "yes"}, "evaluated='yes'"),
        ({"value_wrong": 2.0}, "value_correct > value_wrong"),
        ({"value_malformed": 0.5}, "value_wrong >= value_malformed"),
        ({"value_wrong": math.nan}, "must hold"),
        ({"max_answer_chars": 0}, "max_answer_chars=0"),
        ({"timeout_s": 0.0}, "timeout_s=0.0"),
    ],
)
def test_bad_settings_are_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MathAnswerConfig(**settings_)


def spellings(value: Fraction) -> list[str]:
    top, bottom = value.numerator, value.denominator
    sign, size = ("-", -top) if top < 0 else ("", top)
    whole, rest = divmod(size, bottom)
    mixed = rf"{sign}{whole}\frac{{{rest}}}{{{bottom}}}" if whole and rest else f"{top}/{bottom}"
    return [
        f"{top}/{bottom}",
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"{sign}\dfrac{{{size}}}{{{bottom}}}",
        rf"\frac{{{3 * top}}}{{{3 * bottom}}}",
        f"$ {top} / {bottom} $",
        f"x = {top}/{bottom}",
        rf"\left({top}/{bottom}\right)",
        rf"\text{{{top}/{bottom}}}",
        rf"{top}/{bottom}\text{{ cm}}",
        mixed,
    ]


rationals = st.fractions(min_value=-9999, max_value=9999, max_denominator=999)


@settings(max_examples=60, deadline=None)
@given(value=rationals, decimals=st.integers(0, 6))
def test_a_rational_matches_in_ten_spellings_and_its_neighbours_never(
    value: Fraction, decimals: int
) -> None:
    gold = f"{value.numerator}/{value.denominator}"
    neighbour = value + Fraction(1, 10**decimals)
    for answer in spellings(value):
        assert is_right(answer, gold) and is_right(gold, answer)
    for answer in spellings(neighbour):
        assert not is_right(answer, gold)


symbols = st.text(alphabet=string.printable + "\\{}[]()$^_\u03c0\xe9\U0001f600\ud800", max_size=60)
pieces = st.lists(
    st.sampled_from(
        [
            r"\frac",
            r"\sqrt",
            r"\text{",
            r"}",
            r"{",
            r"(",
            r")",
            r"[",
            r"]",
            r",",
            r";",
            r"=",
            r"<",
            r">",
            r"\le",
            r"\cup",
            r"\in",
            r"\pm",
            r"!",
            r"^",
            r"_",
            r"1",
            r"2",
            r"23",
            r".",
            r"%",
            r"\%",
            r"x",
            r"y",
            r"e",
            r"i",
            r"\infty",
            r"\begin{pmatrix}",
            r"\end{pmatrix}",
            r"&",
            r"\\",
            r"or",
            r"and",
            r"\boxed{",
            r"\pi",
            r"+",
            r"-",
            r"*",
            r"/",
            r"\circ",
            r"cm",
            r"B",
        ]
    ),
    max_size=14,
).map("".join)
GOLDS = ["4", "1/3", "(1,2)", "1,2", "[1,2)", "x<3", r"\pi", "y=2x+3", "yes", "1101_2", r"5\%", "B"]


@settings(max_examples=400, deadline=None)
@given(answer=st.one_of(symbols, pieces), gold=st.sampled_from(GOLDS))
def test_no_text_raises_and_the_verdict_is_deterministic(answer: str, gold: str) -> None:
    reward = MathAnswer()
    first, second = (reward.quick_score(boxed(answer, gold)) for _ in range(2))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.value in (0.0, 1.0)
        assert (first.verdict, first.detail) == (second.verdict, second.detail)


@settings(max_examples=150, deadline=None)
@given(gold=st.one_of(symbols, pieces))
def test_no_reference_raises_and_a_usable_one_equals_itself(gold: str) -> None:
    reward = MathAnswer(MathAnswerConfig(extraction="answer_tag"))
    gold = gold.replace(r"\boxed", "")
    sample = Sample(completion=f"<answer>{gold}</answer>", reference={"answer": gold})
    problem, score = reward.reference_problem({"answer": gold}), reward.quick_score(sample)
    assert score is not None
    assert score.verdict is (Verdict.BAD_REFERENCE if problem else Verdict.CORRECT)


def test_algebra_on_random_text_gives_scores_and_never_raises(pool: WorkerPool) -> None:
    marks = [r"\frac{x}{2}", "x", "+", "^2", "(", ")", r"\sqrt{x}", "2", "|", "!", r"\sin ", "-"]
    texts = [
        "".join(marks[(7 * i + j * j) % len(marks)] for j in range(i % 7 + 1)) for i in range(60)
    ]
    scores = score_batch(MathAnswer(), [boxed(text, "x^2+1") for text in texts], pool)
    assert {score.value for score in scores} <= {0.0, 1.0}
    assert not any(score.verdict is Verdict.CRASHED for score in scores), scores


@pytest.mark.parametrize(
    "completion",
    ["", "\x00", "\ud800", r"\boxed{" * 100_000, r"\boxed{1}, " * 90_000, "{" * 1_000_000],
)
def test_empty_huge_and_broken_completions_are_judged_quickly(completion: str) -> None:
    start = time.perf_counter()
    score = MathAnswer().quick_score(Sample(completion=completion, reference={"answer": "1"}))
    assert time.perf_counter() - start < 2.0
    assert score is not None and score.value == 0.0


def test_permuting_a_batch_permutes_the_scores(pool: WorkerPool) -> None:
    samples = [read_case(case, Path()).sample for case in CASES[77:104]]
    forward = score_batch(MathAnswer(), samples, pool)
    backward = score_batch(MathAnswer(), samples[::-1], pool)
    assert [s.verdict for s in forward] == [s.verdict for s in backward[::-1]]


def test_integers_are_judged_at_twenty_thousand_per_second() -> None:
    reward = MathAnswer()
    samples = [boxed(str(i), str(i + i % 2)) for i in range(2000)]
    seconds = min(_seconds(reward, samples) for _ in range(5))
    assert len(samples) / seconds > 20_000


def _seconds(reward: MathAnswer, samples: list[Sample]) -> float:
    start = time.perf_counter()
    for sample in samples:
        reward.quick_score(sample)
    return time.perf_counter() - start


def test_the_reward_can_be_pickled() -> None:
    reward = MathAnswer(MathAnswerConfig(value_malformed=-1.0))
    assert pickle.loads(pickle.dumps(reward)).config == reward.config


def test_importing_every_module_never_imports_torch() -> None:
    names = [file.stem for file in (ROOT / "rewards").glob("*.py")]
    code = f"import sys\nfor name in {names!r}: __import__('rewards.' + name)\n"
    code += "bad = {'torch', 'transformers', 'trl', 'trainers', 'rollout', 'inference'}\n"
    code += "sys.exit(str(bad & set(sys.modules)) if bad & set(sys.modules) else 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_training_process_never_imports_sympy() -> None:
    code = (
        "import sys\nfrom rewards.math_answer import *\nfrom rewards.batch import score_batch\n"
        "s = Sample(completion=r'\\boxed{1+x}', reference={'answer': 'x+1'})\n"
        "assert score_batch(MathAnswer(), [s])[0].value == 1.0\n"
        "sys.exit('sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
