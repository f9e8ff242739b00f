from __future__ import annotations

import pytest

from rewards.latex_cleanup import clean, squash


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (r"\left(\dfrac12, 10\,080\right)", r"(\frac{1}{2}, 10080)"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\frac1{2}", r"\frac{1}{2}"),
        (r"\frac{1}2", r"\frac{1}{2}"),
        (r"\frac\pi2", r"\frac{\pi}{2}"),
        (r"\tfrac{\sqrt2}2", r"\frac{\sqrt{2}}{2}"),
        ("1,000,000", "1000000"),
        ("10{,}080", "10080"),
        ("1,00", "1,00"),
        ("100, 200", "100, 200"),
        ("(1,100)", "(1,100)"),
        ("$1,000$ and $2,000$", "1000 and 2000"),
        ("\u22124", "-4"),
        ("3\u03c0", r"3\pi"),
        ("18.", "18"),
        (r"\approx 18", "18"),
        (r"\text{Yes.}", "Yes"),
        (r"\mathbf{18}", "18"),
        (r"\textbf{(A)}\ 12", r"\text{(A)} 12"),
        (r"1 \text{ or } 2", "1 or 2"),
        (r"x\leq 3", r"x\le 3"),
        ("x<=3", r"x\le 3"),
        (r"\begin{matrix}1\\ 2\end{matrix}", r"\begin{matrix}1\\ 2\end{matrix}"),
        (r"\$40", r"\$40"),
        (r"\langle 1,2 \rangle", "( 1,2 )"),
    ],
)
def test_clean_gives_one_spelling(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize("text", [r"\left(\dfrac12, 10\,080\right)", r"\frac\pi2", "1,000 \\%"])
def test_clean_changes_nothing_the_second_time(text: str) -> None:
    assert clean(clean(text)) == clean(text)


def test_squash_ignores_space_and_single_character_braces() -> None:
    assert squash("x^{2} + y_{1}") == squash("x^2+y_1")
