"""The comparison rules of published benchmarks, to report comparable numbers.

Only the comparison is theirs. Queries run in our sandbox, the reference in a context that the
prediction cannot touch, and a prediction that is refused (write, clock, no table) is wrong under every
rule; so deleting rows, shadowing a table or constants without a table do not pay, unlike in the
published scripts.

* bird: BIRD EX, set of rows, columns in place, order ignored.
* spider: Spider test-suite execution, DISTINCT removed from both queries, bag of rows, any column
  order, sequence when "order by" occurs anywhere in the reference, exact values.
* exact_set: the idea of Spider's exact set match, clauses as sets, aliases resolved, constants
  ignored. Deviation: clauses are compared on sqlglot's tree, not on Spider's own grammar.
* soft_f1: BIRD Soft-F1, see `soft_f1`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlglot import exp
from sqlglot.errors import SqlglotError

from rewards.sql.compare import in_sequence, matches, unordered
from rewards.sql.outcome import Outcome, Row
from rewards.sql.tree import alias_names, parse


def bird_equal(gold: Sequence[Row], predicted: Sequence[Row]) -> bool:
    """BIRD EX: equal sets of rows."""
    return set(gold) == set(predicted)


def spider_equal(gold: Outcome, predicted: Outcome, gold_sql: str) -> bool:
    """Spider test-suite on one database; both results empty are equal."""
    if not gold.rows and not predicted.rows:
        return True
    is_ordered = "order by" in gold_sql.lower()
    expected = (in_sequence if is_ordered else unordered)(gold.rows, len(gold.columns))
    return matches(expected, predicted.rows, len(predicted.columns), forgives_noise=False)


def soft_f1(gold: Sequence[Row], predicted: Sequence[Row]) -> float:
    """BIRD Soft-F1: row i against row i after dropping repeats, cells by membership.

    With w = number of columns of the reference: matched = predicted cells that occur in the reference
    row / w, and so on; F1 of the sums. Repeating one right value drives it towards 1, so the reward
    pays at most `cell_f1`.

    Example:
        gold `[(1, "a"), (2, "b")]`, predicted `[(1, "a")]`: 0.666667.
    """
    left, right = list(dict.fromkeys(gold)), list(dict.fromkeys(predicted))
    if not left and not right:
        return 1.0
    matched = predicted_only = gold_only = 0.0
    for i, row in enumerate(left):
        if i >= len(right):
            gold_only += 1
            continue
        matched += sum(cell in row for cell in right[i]) / len(row)
        predicted_only += sum(cell not in row for cell in right[i]) / len(row)
        gold_only += sum(cell not in right[i] for cell in row) / len(row)
    predicted_only += max(0, len(right) - len(left))
    return 2 * matched / (2 * matched + predicted_only + gold_only) if matched else 0.0


def exact_set_equal(gold_sql: str, predicted_sql: str, dialect: str) -> bool:
    """Equal clauses as sets; False when one of the queries cannot be read."""
    gold, predicted = (_clauses(sql, dialect) for sql in (gold_sql, predicted_sql))
    return gold is not None and gold == predicted


def _clauses(sql: str, dialect: str) -> dict[str, Counter[str]] | None:
    root = parse(sql, dialect)
    if root is None:
        return None
    try:
        return _clause_sets(_anonymous(root), dialect)
    except (SqlglotError, RecursionError, ValueError):
        return None


def _anonymous(root: exp.Expr) -> exp.Expr:
    """The tree with constants masked, aliases of tables resolved and names in lower case."""
    aliases = alias_names(root)
    single = next(iter(aliases.values())) if len(aliases) == 1 else ""

    def replace(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Literal):
            return exp.Literal.string("value")
        if isinstance(node, exp.Column):
            table = aliases.get(node.table.lower(), node.table.lower()) or single
            return exp.column(node.name.lower(), table=table or None)
        if isinstance(node, exp.Table):
            return exp.to_table(node.name.lower())
        return node.this if isinstance(node, exp.Alias) else node

    return root.copy().transform(replace)


def _clause_sets(root: exp.Expr, dialect: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for name, value in root.args.items():
        if value is None or value == [] or name in ("distinct", "kind", "hint"):
            continue
        nodes = value if isinstance(value, list) else [value]
        pieces = [piece for node in nodes for piece in _pieces(node)]
        found[name] = Counter(
            p.sql(dialect=dialect) if isinstance(p, exp.Expr) else str(p) for p in pieces
        )
    return found


def _pieces(node: object) -> list[object]:
    """Conjuncts of a condition, items of a list, or the node itself."""
    if isinstance(node, exp.Where | exp.Having):
        condition = node.this
        return list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
    if isinstance(node, exp.Group):
        return list(node.expressions)
    return [node]
