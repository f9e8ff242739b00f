"""The action grammar: `name[argument]`, as the official environment reads it.

The original matches "anything, then [anything]" greedily from the start of the text and never over a
line break. So the name ends at the last bracket that still leaves an argument: in
`search[a] click[b]` the name is `search[a] click`, which is no action. Text after the last closing
bracket is ignored. A regular expression needs quadratic time for that on hostile text, two searches
from the right do not.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Action:
    """Name as written, argument in lower case."""

    name: str
    argument: str


def parse_action(text: str) -> Action | None:
    """The action that a text denotes, None when it has no name or no argument.

    Example:
        `parse_action("click[Buy Now]")` is `Action("click", "buy now")`; `search[]` is None.
    """
    line = text.partition("\n")[0]
    end = line.rfind("]")
    start = line.rfind("[", 1, max(1, end - 1))  # leaves a name before and an argument after it
    if start < 0:
        return None
    return Action(line[:start], line[start + 1 : end].lower())
