from __future__ import annotations

import pytest

from rewards.guards import guard_violation


@pytest.mark.parametrize(
    ("text", "violation"),
    [
        ("1" * 513, "length"),
        ("(" * 25 + "1" + ")" * 25, "depth"),
        ("1" * 65, "digits"),
        (",".join("1" * 65), "elements"),
        (r"\input{/etc/passwd}", "command"),
        (r"\Gamma(10^9)", "command"),
        ("10^{31}", "power"),
        ("99^{16}", "power"),
        ("2^{1000000000}", "power"),
        ("10^{10^{10}}", "power"),
        ("2^3^4", "power"),
        ("2^{3}^{4}", "power"),
        ("x^{10^{10}}", "power"),
        ("(x+1)^{5000}", "power"),
        ("10^{-31}", "power"),
        ("201!", "factorial"),
        ("(100!)!", "factorial"),
        ("5!!", "factorial"),
        (r"\binom{201}{3}", "factorial"),
    ],
)
def test_each_limit_is_named(text: str, violation: str) -> None:
    assert guard_violation(text) == violation


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1" * 64,
        "(" * 24 + "1" + ")" * 24,
        ",".join("1" * 64),
        "10^{30}",
        "2^{99}",
        "(x^2)^{3}",
        "(x+1)^{200}",
        r"e^{x^2}",
        "x^{2n}",
        "200!",
        "(n-1)!",
        r"\frac{n!}{(n-1)!}",
        r"\binom{n}{2}",
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        r"1.5\times 10^{-3}",
    ],
)
def test_ordinary_answers_pass(text: str) -> None:
    assert guard_violation(text) is None


def test_the_length_limit_can_be_set() -> None:
    assert guard_violation("12345", max_chars=4) == "length"
