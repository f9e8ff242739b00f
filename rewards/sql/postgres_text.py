"""What a PostgreSQL statement would do, read from its tokens and its syntax tree before it is sent.

The walls are the role's privileges and the read-only transaction (`postgres_setup`,
`postgres_database`); this check gives precise statuses, refuses what a role cannot be forbidden (the
clock, memory eaters), and keeps other sessions' queries out of sight.
"""

from __future__ import annotations

import re

from sqlglot import exp, tokenize
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from rewards.sql.outcome import Status
from rewards.sql.tree import alias_names, parse_all

DIALECT = "postgres"
MAX_PADDING = 10_000
"""Largest length that repeat, lpad and rpad may be asked for; it must be a literal."""

_DENIED_NAME = re.compile(r"pg_(?!catalog$)\w*|pg_temp.*", re.IGNORECASE)
_DENIED_CALL = re.compile(
    r"(lo_\w*|loread|lowrite|dblink\w*|set_config|current_setting|txid_\w*|\w+_to_xml\w*|ts_stat|"
    r"ts_rewrite|nextval|setval|currval|lastval|inet_\w*|gin_\w*|brin_\w*|binary_upgrade_\w*|"
    r"array_fill|format|has_\w+_privilege|row_security_active|xmlparse)",
    re.IGNORECASE,
)
_UNSTABLE_CALL = re.compile(
    r"(now|random|random_normal|setseed|timeofday|(clock|statement|transaction)_timestamp|gen_random_\w+|uuid\w*|version)",
    re.IGNORECASE,
)
_UNSTABLE_WORD = re.compile(
    r"(current|session|local)_?(date|time|timestamp|user|role|catalog)|localtime(stamp)?|user",
    re.IGNORECASE,
)
_UNSTABLE_TEXT = frozenset(("now", "today", "tomorrow", "yesterday"))
_QUERIES = (exp.Select, exp.SetOperation, exp.Values, exp.Subquery)
_WRITES = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Into, exp.Lock,
    exp.Command, exp.Copy, exp.Set, exp.TruncateTable,
)  # fmt: skip
_TEXTS = (TokenType.STRING, TokenType.NATIONAL_STRING, TokenType.HEREDOC_STRING)


def postgres_refusal(sql: str) -> Status | None:
    """Why a statement is not sent to the server, None when it may be."""
    roots = parse_all(sql, DIALECT)
    if roots is None:
        return Status.SYNTAX_ERROR
    if len(roots) != 1:
        return Status.MULTIPLE_STATEMENTS if roots else Status.NO_SQL
    root = roots[0]
    if not isinstance(root, _QUERIES):
        is_explain = str(root.this).upper() == "EXPLAIN" if isinstance(root, exp.Command) else False
        is_explain = is_explain or isinstance(root, exp.Describe)
        return Status.NOT_A_QUERY if is_explain else Status.DENIED
    if root.find(*_WRITES) is not None or any(
        map(_is_too_long, root.find_all(exp.Repeat, exp.Pad))
    ):
        return Status.DENIED
    if root.find(exp.TableSample) is not None or any(map(_is_age, root.find_all(exp.Anonymous))):
        return Status.NONDETERMINISTIC
    return _token_refusal(sql)


def postgres_reads(sql: str) -> frozenset[tuple[str, str]]:
    """Tables as (name, "") and columns as ("", name), lower case; names of CTEs are no tables."""
    roots = parse_all(sql, DIALECT)
    if not roots:
        return frozenset()
    root = roots[0]
    ctes = {cte.alias.lower() for cte in root.find_all(exp.CTE)}
    system = {table.name.lower() for table in root.find_all(exp.Table) if _is_system(table)}
    tables = {(table, "") for table in set(alias_names(root).values()) - ctes - system if table}
    columns = {("", column.name.lower()) for column in root.find_all(exp.Column)}
    return frozenset(tables | columns)


def _token_refusal(sql: str) -> Status | None:
    try:
        tokens = tokenize(sql, read=DIALECT)
    except (SqlglotError, ValueError):
        return Status.SYNTAX_ERROR
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if (status := _one_token(token, after)) is not None:
            return status
    return None


def _one_token(token: Token, after: Token | None) -> Status | None:
    text = token.text.strip()
    if token.token_type in _TEXTS:
        return Status.NONDETERMINISTIC if text.lower() in _UNSTABLE_TEXT else None
    is_call = after is not None and after.token_type is TokenType.L_PAREN
    if _DENIED_NAME.fullmatch(text) or (is_call and _DENIED_CALL.fullmatch(text)):
        return Status.DENIED
    is_word = token.token_type is not TokenType.IDENTIFIER and _UNSTABLE_WORD.fullmatch(text)
    if is_word or (is_call and _UNSTABLE_CALL.fullmatch(text)):
        return Status.NONDETERMINISTIC
    return None


def _has_long_padding(root: exp.Expr) -> bool:
    return any(_is_too_long(node) for node in root.find_all(exp.Repeat, exp.Pad))


def _is_too_long(node: exp.Expr) -> bool:
    length = node.args.get("times") or node.args.get("expression")
    is_small = isinstance(length, exp.Literal) and length.this.isdigit()
    return not is_small or int(length.this) > MAX_PADDING  # type: ignore[union-attr]  # a literal


def _is_age(node: exp.Expr) -> bool:
    """`age(x)` subtracts from today; `age(x, y)` does not."""
    return node.name.lower() == "age" and len(node.expressions) == 1


def _is_system(table: exp.Expr) -> bool:
    return isinstance(table, exp.Table) and table.db.lower() in ("pg_catalog", "information_schema")
