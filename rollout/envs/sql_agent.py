r"""Intermediate queries while the model reasons (the protocol of ReEx-SQL, read second hand).

    model:        <think>...</think><intermediate_sql>SELECT name FROM shop</intermediate_sql>
    environment:  <result>name\nA\nB\n(2 rows)</result>
    model:        <think>...</think><final_sql>SELECT ...</final_sql>     the episode is over

trajectory := step* answer; step := think? intermediate result; answer := think? final.

Feedback is the error message, or the column names and the first rows. After `max_interactions`
queries the next one is answered with the news that the budget is used up; one more breaks the format.
The final query is not executed here: that is the reward's business. Facts for rewards:

* format: every turn follows the grammar, and the last one is final;
* interactions: executed intermediate queries; effective: those that ran, were not asked before and are
  not the final query, and gave a row or read sqlite_master (the final query is compared once it is
  there); statuses: of all of them, in order;
* final_sql: the final query, without fence; absent until it is written.

Queries are compared as text with single blanks (quoted ones too) and without final semicolon; a
parser's canonical form would find more repetitions.
"""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from rollout.envs.base import ClosingTags, Example, Observation, TurnFormat
from rollout.envs.load import load_object

_THINK = r"\s*(?:<think>(?:(?!</?think>).)*</think>)?\s*"
_INTERMEDIATE = re.compile(
    r"<intermediate_sql>((?:(?!<intermediate_sql>).)*)</intermediate_sql>\Z", re.DOTALL
)
_FINAL = re.compile(r"<final_sql>((?:(?!<final_sql>).)*)</final_sql>\Z", re.DOTALL)
_BEFORE_TAG = re.compile(_THINK, re.DOTALL)
_FENCE = re.compile(r"\A\s*```(?:sql)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL | re.IGNORECASE)
_MAX_OPEN = 16
_BUDGET_USED = "error: budget: all {} intermediate queries are used, write the final query"


class QueryResult(Protocol):
    """What running one query gave; failures are data."""

    @property
    def status(self) -> str:
        """`ok`, `row_limit`, or the class of the error or limit."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""
        ...

    @property
    def rows(self) -> Sequence[Sequence[Any]]:  # scalars of the database
        """All rows if the status is ok."""
        ...

    @property
    def error_text(self) -> str:
        """Message of the database."""
        ...


class SqlExecutor(Protocol):
    """Runs queries on one database, with limits of its own."""

    def execute(self, sql: str, /) -> QueryResult:
        """Run one statement; must not raise because of what it says."""
        ...


OpenDatabase = Callable[[Example], SqlExecutor]
"""The executor for the database of a data-set row; called in the thread that will use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlAgentConfig:
    """Where queries run, and how much of the results is shown."""

    executor: str
    """pkg.mod:function that takes a data-set row and returns an object with execute(sql), for use in
    one thread."""
    settings: Mapping[str, Any] = field(default_factory=dict)  # the function's own
    """Keyword arguments of the function, besides the row."""
    max_interactions: int = 10
    """N: intermediate queries that are executed (5 for small models)."""
    max_rows: int = 3
    """Rows shown."""
    max_cell_chars: int = 60
    """Longest cell shown."""
    max_error_chars: int = 200
    """Longest error message shown."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("max_interactions", "max_rows", "max_cell_chars", "max_error_chars"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"rollout.env.options.{name}={getattr(self, name)} must be at least 1"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlAgentState:
    """All that an episode remembers; a database is not part of it, for it never changes."""

    example: Example
    num_turns: int = 0
    """Intermediate queries, those over the budget included."""
    queries: tuple[str, ...] = ()
    """Executed queries, normalised."""
    effective: frozenset[str] = frozenset()
    """Those that count as exploration."""
    statuses: tuple[str, ...] = ()
    is_well_formed: bool = True


class SqlAgent:
    """Executes intermediate queries; a final query ends the episode."""

    turns = TurnFormat(
        action_end=ClosingTags(("</intermediate_sql>", "</final_sql>")),
        observation_open="\n<result>",
        observation_close="</result>\n",
        forbidden=("<result>", "</result>"),
        reserved=(
            *("<think>", "</think>", "<intermediate_sql>", "</intermediate_sql>"),
            *("<final_sql>", "</final_sql>"),
        ),
    )

    def __init__(self, config: SqlAgentConfig) -> None:
        self._config = config
        opens = load_object(config.executor, key="rollout.env.options.executor")
        self._open: OpenDatabase = partial(opens, **config.settings)
        self._executors: OrderedDict[int, tuple[Example, SqlExecutor]] = OrderedDict()
        self._state: SqlAgentState | None = None

    def reset(self, example: Example, /) -> Observation | None:
        """Open the row's database; the question and the schema are in the prompt."""
        self._state = SqlAgentState(example=example)
        self._executor(example)  # a missing database shows at once
        return None

    def step(self, action: str, /) -> Observation:
        """Execute an intermediate query, or take the final one."""
        state = self._state
        assert state is not None, "step before reset or restore"
        final, intermediate = _FINAL.search(action), _INTERMEDIATE.search(action)
        match = final or intermediate
        is_well_formed = match is not None and _follows_grammar(action[: match.start()])
        self._state = dataclasses.replace(
            state, is_well_formed=state.is_well_formed and is_well_formed
        )
        if final is not None:
            return self._finish(unfenced(final[1]))
        if intermediate is None:
            return Observation(broke_format=True, detail=self._facts(self._state))
        return self._explore(self._state, unfenced(intermediate[1]))

    def snapshot(self) -> SqlAgentState:
        """The state, an immutable value."""
        assert self._state is not None, "snapshot before reset or restore"
        return self._state

    def restore(self, state: SqlAgentState, /) -> None:
        """Continue from a state."""
        self._state = state

    def _explore(self, state: SqlAgentState, sql: str) -> Observation:
        num_turns = state.num_turns + 1
        if num_turns > self._config.max_interactions:
            self._state = dataclasses.replace(state, num_turns=num_turns)
            if num_turns > self._config.max_interactions + 1:
                return Observation(broke_format=True, detail=self._facts(self._state))
            text = _BUDGET_USED.format(self._config.max_interactions)
            return Observation(text=text, detail=self._facts(self._state))
        result = self._executor(state.example).execute(sql)
        name = normalised(sql)
        counts = name not in state.queries and _explores(result, name)
        self._state = dataclasses.replace(
            state,
            num_turns=num_turns,
            queries=(*state.queries, name),
            effective=state.effective | {name} if counts else state.effective,
            statuses=(*state.statuses, str(result.status)),
        )
        return Observation(text=feedback(result, self._config), detail=self._facts(self._state))

    def _executor(self, example: Example) -> SqlExecutor:
        """This instance's executor for a row; the last few stay open."""
        key = id(example)  # branches of a prompt share the row, and the entry keeps it alive
        if key not in self._executors:
            self._executors[key] = (example, self._open(example))
            if len(self._executors) > _MAX_OPEN:
                self._executors.popitem(last=False)
        self._executors.move_to_end(key)
        return self._executors[key][1]

    def _finish(self, sql: str) -> Observation:
        assert self._state is not None
        state = dataclasses.replace(
            self._state, effective=self._state.effective - {normalised(sql)}
        )
        facts = {**self._facts(state), "format": state.is_well_formed, "final_sql": sql}
        return Observation(done=True, detail=facts)

    def _facts(self, state: SqlAgentState) -> dict[str, Any]:  # JSON-able
        return {
            "format": False,  # becomes true with a final query only
            "interactions": len(state.queries),
            "effective": len(state.effective),
            "statuses": list(state.statuses),
        }


def feedback(result: QueryResult, config: SqlAgentConfig) -> str:
    """Text of a result: an error, or header, first rows and the number of rows.

    Cells cannot hold tags: `<` and `>` are written `&lt;` and `&gt;`.
    """
    status = str(result.status)
    if status not in ("ok", "row_limit"):
        message = _escaped(" ".join(result.error_text.split())[: config.max_error_chars])
        return f"error: {status}: {message}" if message else f"error: {status}"
    lines = [result.columns, *result.rows[: config.max_rows]]
    shown = [" | ".join(_cell(value, config.max_cell_chars) for value in line) for line in lines]
    count = f"({len(result.rows)} rows)" if status == "ok" else "(more rows than the limit)"
    return "\n".join([*shown, count])


def unfenced(text: str) -> str:
    """A query without the fenced block around it."""
    match = _FENCE.match(text)
    return (match[1] if match else text).strip()


def normalised(sql: str) -> str:
    """A query with single blanks and without final semicolon, for comparing."""
    return " ".join(sql.split()).rstrip("; ")


def _follows_grammar(text: str) -> bool:
    """Whether nothing but a thought stands before the tag, and only white space around it."""
    return _BEFORE_TAG.fullmatch(text) is not None


def _explores(result: QueryResult, sql: str) -> bool:
    if str(result.status) != "ok":
        return False
    return bool(result.rows) or "sqlite_master" in sql.lower()


def _cell(value: object, max_chars: int) -> str:
    if value is None:
        return "NULL"
    text = f"x'{value.hex()}'" if isinstance(value, bytes) else str(value)
    return _escaped(" ".join(text.splitlines())[:max_chars])


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


ENVIRONMENT = SqlAgent
