"""A calculator with one memory: the smallest complete environment, to read and to test with.

    model:        <calc>2 + 3/4</calc>
    environment:  <result>11/4</result>
    model:        <calc>ans * 4</calc>
    environment:  <result>11</result>
    model:        <answer>11</answer>        the episode is over

Numbers are exact fractions; `ans` is the newest result. State: `ans` and two counters.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from rollout.envs.base import ClosingTags, Example, Observation, TurnFormat

_MAX_CHARS = 200
_MAX_DIGITS = 60
_QUERY = re.compile(r"<calc>((?:(?!<calc>).)*)</calc>\Z", re.DOTALL)
_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*)</answer>\Z", re.DOTALL)
_EXPRESSION = re.compile(r"(?:ans|[0-9.()+*/\s-])*")
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class CalculatorState:
    """All that an episode remembers."""

    ans: Fraction = Fraction(0)
    num_results: int = 0
    num_errors: int = 0


class Calculator:
    """Evaluates `<calc>` queries; `<answer>` ends the episode. Has no options."""

    turns = TurnFormat(
        action_end=ClosingTags(("</calc>", "</answer>")),
        observation_open="\n<result>",
        observation_close="</result>\n",
        forbidden=("<result>", "</result>"),
        reserved=("<calc>", "</calc>", "<answer>", "</answer>"),
    )

    def __init__(self) -> None:
        self._state = CalculatorState()

    def reset(self, example: Example, /) -> Observation | None:
        """Start with ans = 0; the prompt says it all."""
        del example  # part of the contract; a calculator knows no task
        self._state = CalculatorState()
        return None

    def step(self, action: str, /) -> Observation:
        """Calculate or end; a turn whose last tag was never opened breaks the format."""
        answer = _ANSWER.search(action)
        if answer is not None:
            return Observation(done=True, detail=self._facts(answer=answer[1].strip()))
        query = _QUERY.search(action)
        if query is None:
            return Observation(broke_format=True, detail=self._facts())
        text = self._calculate(query[1])
        return Observation(text=text, detail=self._facts())

    def snapshot(self) -> CalculatorState:
        """The state, an immutable value."""
        return self._state

    def restore(self, state: CalculatorState, /) -> None:
        """Continue from a state."""
        self._state = state

    def _calculate(self, query: str) -> str:
        old = self._state
        try:
            value = evaluate(query, old.ans)
        except (ValueError, ZeroDivisionError) as error:
            self._state = CalculatorState(old.ans, old.num_results, old.num_errors + 1)
            return f"error: {error}"
        self._state = CalculatorState(value, old.num_results + 1, old.num_errors)
        return str(value)

    def _facts(self, **more: str) -> dict[str, str | int]:
        return {
            "results": self._state.num_results,
            "errors": self._state.num_errors,
            **more,
        }


def evaluate(text: str, ans: Fraction) -> Fraction:
    """Value of an expression of integers, decimals, `ans`, + - * / and brackets.

    Raises:
        ValueError: It is no such expression, or a number has more than 60 digits.
        ZeroDivisionError: It divides by zero.
    """
    if len(text) > _MAX_CHARS:
        raise ValueError(f"longer than {_MAX_CHARS} characters")
    if not _EXPRESSION.fullmatch(text):
        raise ValueError("only numbers, ans, + - * / and brackets")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError("not an expression") from error
    return _value(tree.body, ans)


def _value(node: ast.expr, ans: Fraction) -> Fraction:
    value = _unchecked_value(node, ans)
    if max(abs(value.numerator), value.denominator) >= 10**_MAX_DIGITS:
        raise ValueError(f"more than {_MAX_DIGITS} digits")
    return value


def _unchecked_value(node: ast.expr, ans: Fraction) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _number(number)
        case ast.Name(id="ans"):
            return ans
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, ans)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, ans), _value(right, ans))
    raise ValueError("only numbers, ans, + - * / and brackets")


def _number(number: int | float) -> Fraction:
    if number in (float("inf"), float("-inf")):
        raise ValueError("number too large")
    return Fraction(str(number)) if isinstance(number, float) else Fraction(number)


ENVIRONMENT = Calculator
