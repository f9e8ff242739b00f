from __future__ import annotations

import pytest

from rewards.latex_cleanup import clean
from rewards.units import canonical_unit, split_unit


@pytest.mark.parametrize(
    ("text", "core", "unit"),
    [
        (r"5\text{ cm}", "5", "cm"),
        (r"5\text{ cm}^2", "5", "cm^2"),
        (r"5\mathrm{m}/\mathrm{s}^{2}", "5", "m/second^2"),
        ("5 square feet", "5", "foot^2"),
        ("72 mph", "72", "mile/hour"),
        (r"90^\circ", "90", "degree"),
        ("90 degrees", "90", "degree"),
        (r"20^\circ C", "20", "degreeC"),
        (r"\$40", "40", "dollar"),
        (r"-\$40", "-40", "dollar"),
        ("40 dollars", "40", "dollar"),
        (r"12.5\%", "12.5", "%"),
        ("12 percent", "12", "%"),
        (r"\frac{1}{2}\text{ inch}", r"\frac{1}{2}", "inch"),
        ("6 inches", "6", "inch"),
        (r"3\text{ apples}", "3", "apple"),
        ("2t", "2t", ""),
        ("5c", "5c", ""),
        ("2 bananas", "2 bananas", ""),
        (r"18\text{ or twenty}", r"18\text{ or twenty}", ""),
        (r"\text{cm}", "cm", ""),
    ],
)
def test_a_unit_is_split_from_its_number(text: str, core: str, unit: str) -> None:
    found_core, found_unit = split_unit(clean(text))
    assert (found_core.strip(), found_unit) == (core, unit)


def test_spellings_of_a_unit_agree() -> None:
    assert canonical_unit("square feet") == canonical_unit("ft^2") == canonical_unit("ft^{2}")
    assert canonical_unit("miles per hour") == canonical_unit("mph")
    assert canonical_unit("centimeters") == canonical_unit("cm") != canonical_unit("m")
