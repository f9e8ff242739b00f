"""Compares a cleaned prediction with a cleaned reference, by the kind of the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rewards.answer_kinds import AnswerKind, infer_kind
from rewards.equations import same_equation, unwrap_value
from rewards.intervals import is_interval_notation, same_region
from rewards.matrices import same_matrix
from rewards.scalars import Algebra, Rules, same_scalar
from rewards.sequences import same_list, same_tuple, tuple_parts
from rewards.words import choice_letter, same_base_numeral, same_text, special_value


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """Equality of answers under fixed rules with a given algebra."""

    rules: Rules
    algebra: Algebra

    def same(self, gold: str, pred: str, kind: AnswerKind | None = None) -> bool:
        """True when `pred` answers what `gold` answers.

        Args:
            gold: Cleaned reference.
            pred: Cleaned prediction.
            kind: Kind of the reference; inferred when None (elements of lists, matrix entries).

        Raises:
            NeedsAlgebra: The algebra is `scalars.DEFER` and the cheap rules cannot decide.
        """
        return _COMPARE[kind or infer_kind(gold)](self, gold, pred)

    def same_value(self, gold: str, pred: str) -> bool:
        """Equality of single values; `name = value` and chains count as their value."""
        return same_scalar(gold, unwrap_value(pred), self.rules, self.algebra)

    def same_coordinates(self, gold: str, pred: str) -> bool:
        """Ordered tuples; a pair is also an open interval when the prediction writes one."""
        parts = tuple_parts(gold)
        if parts and len(parts) == 2 and not tuple_parts(pred) and is_interval_notation(pred):
            return not pred.startswith("[") and same_region(gold, pred, self.same)
        return same_tuple(gold, pred, self.same)


_COMPARE: dict[AnswerKind, Callable[[AnswerCheck, str, str], bool]] = {
    AnswerKind.SPECIAL: lambda check, gold, pred: special_value(gold) == special_value(pred),
    AnswerKind.CHOICE: lambda check, gold, pred: choice_letter(gold) == choice_letter(pred),
    AnswerKind.BASE: lambda check, gold, pred: same_base_numeral(gold, unwrap_value(pred)),
    AnswerKind.NUMBER: AnswerCheck.same_value,
    AnswerKind.MATRIX: lambda check, gold, pred: same_matrix(gold, unwrap_value(pred), check.same),
    AnswerKind.INTERVAL: lambda check, gold, pred: same_region(gold, pred, check.same),
    AnswerKind.TUPLE: AnswerCheck.same_coordinates,
    AnswerKind.LIST: lambda check, gold, pred: same_list(gold, pred, check.same),
    AnswerKind.EQUATION: lambda check, gold, pred: same_equation(
        gold, pred, check.same, check.algebra.proportional
    ),
    AnswerKind.TEXT: lambda check, gold, pred: same_text(gold, pred),
    AnswerKind.EXPRESSION: AnswerCheck.same_value,
}
