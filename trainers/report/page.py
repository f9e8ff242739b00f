"""One self-contained HTML page: everything inline, nothing fetched, nothing of a model trusted.

Texts that Python places are escaped; texts that the script places reach it as JSON in which no `<` is
left, and are set as text, never as HTML. A content policy in the page forbids every request.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from trainers.report.collect import Evaluated

_SLOT = re.compile(r"@@(\w+)@@")
_SCRIPTS = ("charts.js", "tree.js", "page.js")


def page(*, title: str, header: str, body: str, data: Mapping[str, Any]) -> str:
    """The page.

    Args:
        title: Plain text.
        header: HTML, escaped by the caller.
        body: HTML, escaped by the caller.
        data: What the script draws; JSON-able, non-finite numbers become null.
    """
    slots = {
        "title": escape(title),
        "style": _asset("page.css"),
        "header": header,
        "body": body,
        "data": script_json(data),
        "script": "\n".join(_asset(name) for name in _SCRIPTS),
    }
    return _SLOT.sub(lambda slot: slots[slot.group(1)], _asset("page.html"))


def write_page(path: Path, text: str) -> None:
    """Write a page in ASCII: what is not becomes a character reference."""
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} is not a folder; make it, or choose another --out")
    path.write_text(text, encoding="ascii", errors="xmlcharrefreplace")


def script_json(value: Any) -> str:  # any JSON-able value
    """JSON that can stand inside a script element: ASCII, without <, > and &."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _finite(value: Any) -> Any:  # any JSON-able value
    """The same with floats of six digits, and None for those that JSON does not know."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """An HTML table; every cell is plain text and is escaped. A newline in a cell starts a note."""
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    value, _, note = text.partition("\n")
    small = f"<small>{escape(note)}</small>" if note else ""
    return f"<td>{escape(value)}{small}</td>"


def section(name: str, content: str, intro: str = "") -> str:
    """A section with its anchor, heading and a sentence of introduction."""
    lead = f'<p class="intro">{escape(intro)}</p>' if intro else ""
    return f'<section id="{anchor(name)}"><h2>{escape(name)}</h2>{lead}{content}</section>'


def chart_section(name: str, intro: str, below: str = "") -> str:
    """A section that the script fills with the charts of the group of that name."""
    mount = f'<div class="charts" data-group="{escape(name)}"></div>'
    return section(name, mount + below, intro)


def rest_section() -> str:
    """A closed box that the script fills with the metrics that no other chart shows."""
    content = (
        "<details><summary>every other metric that was logged</summary>"
        '<div class="charts small" data-group="rest"></div></details>'
    )
    return section("All metrics", content, "Explained in docs/metrics.md.")


def interval_plot(names: Sequence[str], labels: Sequence[str], results: Sequence[Evaluated]) -> str:
    """Dots with whiskers, which the script draws: one band per figure, one row per result."""
    values = [[[x.value, x.low, x.high] for x in r.figures.values()] for r in results]
    data = script_json({"names": names, "runs": labels, "values": values})
    return f'<div class="intervals" data-values="{escape(data)}"></div>'


def navigation(names: Iterable[str]) -> str:
    """Links to the sections."""
    links = "".join(f'<a href="#{anchor(name)}">{escape(name)}</a>' for name in names)
    return f"<nav>{links}</nav>"


def notes_box(notes: Iterable[str]) -> str:
    """What the reader has to know before everything else; nothing without notes."""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>' if items else ""


def anchor(name: str) -> str:
    """An id made of letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def shown(value: object) -> str:
    """A setting as text: null, true and numbers as in YAML."""
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)


def _asset(name: str) -> str:
    return (files("trainers.report") / "assets" / name).read_text(encoding="ascii")
