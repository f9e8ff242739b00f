"""Reading SQL into sqlglot's syntax tree, with every way to fail mapped to None."""

from __future__ import annotations

import logging
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

_CACHE_SIZE = 1024

# It warns about each statement that it reads as a generic command; models write many of those.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


@lru_cache(maxsize=_CACHE_SIZE)
def parse(sql: str, dialect: str) -> exp.Expr | None:
    """The tree of a single statement; None when there is none or several, or it cannot be read.

    The tree is shared: copy it before changing it. Deep nesting exhausts the parser's recursion and
    counts as unreadable.
    """
    found = parse_all(sql, dialect)
    return found[0] if found is not None and len(found) == 1 else None


def parse_all(sql: str, dialect: str) -> list[exp.Expr] | None:
    """The trees of all statements; None when the text cannot be read."""
    try:
        trees = sqlglot.parse(sql, read=dialect)
    except (SqlglotError, RecursionError, ValueError):
        return None
    return [tree for tree in trees if tree is not None and not isinstance(tree, exp.Semicolon)]


def canonical(sql: str, dialect: str) -> str:
    """One spelling of a query: comments, spacing and keyword case removed; the text if unreadable."""
    tree = parse(sql, dialect)
    try:
        return sql.strip() if tree is None else tree.sql(dialect=dialect, comments=False)
    except (SqlglotError, RecursionError, ValueError):
        return sql.strip()


def alias_names(tree: exp.Expr) -> dict[str, str]:
    """Lower-case alias or table name -> lower-case table name, over the whole statement."""
    return {table.alias_or_name.lower(): table.name.lower() for table in tree.find_all(exp.Table)}
