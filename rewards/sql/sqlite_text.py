"""What can be said about SQLite text without running it: statements, verbs, use of the clock.

Safety does not rest on this file (the authorizer of `sqlite_guard` decides); it gives precise
statuses early. The lexer follows SQLite: comments do not nest, an unclosed comment runs to the end,
quotes are doubled, and four kinds of quotes exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rewards.sql.outcome import Status

_TOKEN = re.compile(
    r"""(?P<space>[\s\ufeff]+|--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<string>'(?:[^']|'')*'?)
      | (?P<quoted>"(?:[^"]|"")*"?|`(?:[^`]|``)*`?|\[[^\]]*\]?)
      | (?P<word>[^\W\d]\w*)
      | (?P<number>[0-9.]\w*)
      | (?P<symbol>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_QUERY = re.compile(r"\s*(?:select|with)\b[^;]*;?\s*", re.IGNORECASE)
_OTHER_VERBS = frozenset(
    [
        "alter",
        "analyze",
        "attach",
        "begin",
        "commit",
        "create",
        "delete",
        "detach",
        "drop",
        "end",
        "insert",
        "pragma",
        "reindex",
        "release",
        "replace",
        "rollback",
        "savepoint",
        "update",
        "vacuum",
    ]
)
CLOCK_FUNCTIONS = frozenset(
    ["date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"]
)
"""Functions that read the clock when their time value is missing or 'now'."""
_UNSTABLE_TEXTS = frozenset(("now", "localtime", "utc", "subsec", "subsecond"))
"""Time values and modifiers that depend on the clock or on the machine's time zone."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL text; `kind` is string, quoted, word, number or symbol."""

    kind: str
    text: str

    @property
    def content(self) -> str:
        """The text inside the quotes, lower case, stripped; the lower-case text otherwise."""
        inner = self.text[1:-1] if self.kind in ("string", "quoted") else self.text
        return inner.strip().lower()


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of a statement without space and comments; linear in its length."""
    for match in _TOKEN.finditer(sql):
        if match.lastgroup not in (None, "space"):
            yield Token(str(match.lastgroup), match.group())


def statements(sql: str) -> list[list[Token]]:
    """The tokens of each statement that is not empty."""
    found: list[list[Token]] = [[]]
    for token in tokens(sql):
        if token.text == ";":
            found.append([])
        else:
            found[-1].append(token)
    return [statement for statement in found if statement]


def refusal(sql: str) -> Status | None:
    """Why a text cannot be a single query, None when it may be one."""
    if _PLAIN_QUERY.fullmatch(sql):  # the usual case needs no lexer
        return None
    found = statements(sql)
    if not found:
        return Status.NO_SQL
    if len(found) > 1:
        return Status.MULTIPLE_STATEMENTS
    verb = next((token for token in found[0] if token.text != "("), found[0][0]).content
    if verb == "explain":
        return Status.NOT_A_QUERY
    return Status.DENIED if verb in _OTHER_VERBS else None


def without_distinct(sql: str) -> str:
    """The text without its DISTINCT keywords, as the Spider script does before it runs a query."""
    pieces = []
    for match in _TOKEN.finditer(sql):
        is_distinct = match.lastgroup == "word" and match.group().lower() == "distinct"
        pieces.append("" if is_distinct else match.group())
    return "".join(pieces)


def reads_clock(sql: str) -> bool:
    """True when a date function works on the current time or on the machine's time zone.

    Seen: a missing time value, a literal 'now' or 'localtime' anywhere in the statement, and a time
    value computed from literals alone. Not seen: a column that holds the text "now".
    """
    found = list(tokens(sql))
    if any(t.kind in ("string", "quoted") and t.content in _UNSTABLE_TEXTS for t in found):
        return True
    calls = [
        i
        for i, token in enumerate(found[:-1])
        if token.content in CLOCK_FUNCTIONS and found[i + 1].text == "("
    ]
    return any(_has_unstable_time(found, i) for i in calls)


def _has_unstable_time(found: Sequence[Token], call: int) -> bool:
    arguments = _arguments(found, call + 2)
    position = 1 if found[call].content == "strftime" else 0
    if len(arguments) <= position:
        return True
    time_value = arguments[position]
    if len(time_value) == 1:  # a column or a literal that is not 'now'
        return False
    return not any(
        token.kind in ("word", "quoted") and _may_be_column(token) for token in time_value
    )


def _may_be_column(token: Token) -> bool:
    return token.content not in ("char", "lower", "upper", "replace", "substr", "trim", "concat")


def _arguments(found: Sequence[Token], start: int) -> list[list[Token]]:
    """Tokens of each argument of the call whose opening parenthesis stands before `start`."""
    arguments: list[list[Token]] = [[]]
    depth = 0
    for token in found[start:]:
        if token.text == ")" and depth == 0:
            break
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if token.text == "," and depth == 0:
            arguments.append([])
        else:
            arguments[-1].append(token)
    return [argument for argument in arguments if argument]
