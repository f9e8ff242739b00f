"""What a generated catalogue is made of: kinds of products, their attributes, options and prices.

All of it is invented or everyday language; nothing comes from a shop.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """One of the five departments of the official files."""

    name: str
    """Value of the column `category`."""
    path: str
    """First part of the category path."""
    kinds: tuple[tuple[str, str], ...]
    """Kinds of products: (category below the path, noun phrase in the singular)."""
    attributes: tuple[str, ...]
    """What products of the department may be."""
    options: tuple[tuple[str, tuple[str, ...]], ...]
    """Option groups and their values."""
    prices: tuple[int, int]
    """Lowest and highest price in dollars."""


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


def _kinds(category: str, nouns: str) -> tuple[tuple[str, str], ...]:
    return tuple((category, noun) for noun in _list(nouns))


DEPARTMENTS = (
    Department(
        name="beauty",
        path="Beauty & Personal Care",
        kinds=(
            *_kinds(
                "Skin Care", "body lotion, face cream, lip balm, facial serum, sunscreen stick"
            ),
            *_kinds("Hair Care", "hair mask, hair spray, shampoo bar, beard oil, scalp scrub"),
            *_kinds("Tools & Accessories", "makeup brush, nail file, cosmetic bottle"),
        ),
        attributes=_list(
            "fragrance free, cruelty free, paraben free, sulfate free, long lasting, alcohol free, "
            "travel size, seed oil, tea tree, hyaluronic acid, dermatologist tested, oil free"
        ),
        options=(
            ("scent", _list("lavender, citrus, unscented, vanilla/oat, rose, eucalyptus")),
            ("size", _list("2 fl oz, 8 ounce, 16 fl oz, 3.4 ounce (pack of 2)")),
        ),
        prices=(4, 60),
    ),
    Department(
        name="garden",
        path="Home & Kitchen",
        kinds=(
            *_kinds("Furniture", "coffee table, bar stool, console table, desk chair, book shelf"),
            *_kinds("Home Decor", "table lamp, wall clock, throw pillow, area rug, photo frame"),
            *_kinds("Window Treatments", "blackout curtain, roller blind, window valance"),
        ),
        attributes=_list(
            "easy assemble, solid wood, space saving, machine washable, eco friendly, heavy duty, "
            "stainless steel, easy clean, thermal insulated, non slip, metal legs, hand painted"
        ),
        options=(
            ("color", _list("black, dark walnut, light grey, navy blue, ivory white, green")),
            ("size", _list('42"w x 63"l, 52"w x 84"l, 2 piece set, 24 inch')),
        ),
        prices=(12, 400),
    ),
    Department(
        name="grocery",
        path="Grocery & Gourmet Food",
        kinds=(
            *_kinds("Snack Foods", "trail mix, potato chip, protein bar, rice cracker, beef jerky"),
            *_kinds("Beverages", "green tea, ground coffee, coconut water, fruit juice, cocoa mix"),
            *_kinds("Pantry Staples", "pasta sauce, almond butter, maple syrup"),
        ),
        attributes=_list(
            "gluten free, sugar free, low sodium, non gmo, usda organic, dairy free, keto friendly, "
            "plant based, high protein, nut free, kosher certified, resealable bag"
        ),
        options=(
            ("flavor name", _list("original, sea salt, honey/oat, dark chocolate, chili lime")),
            ("size", _list("12 count, 1 pound, 6 ounce (pack of 4), 2.5 pound")),
        ),
        prices=(3, 45),
    ),
    Department(
        name="electronics",
        path="Electronics",
        kinds=(
            *_kinds(
                "Accessories", "hdmi cable, usb charger, phone mount, screen protector, power bank"
            ),
            *_kinds("Audio", "bluetooth speaker, gaming headset, sound bar, desk microphone"),
            *_kinds("Computers", "laptop stand, computer keyboard, hard drive, webcam cover"),
        ),
        attributes=_list(
            "plug and play, ultra hd, fast charging, noise cancelling, gold plated, hands free, "
            "water resistant, quick release, high speed, tempered glass, carbon fiber, dust proof"
        ),
        options=(
            ("color", _list("black, white, rose gold, midnight blue, red, silver")),
            ("size", _list("3 feet, 10 feet, 25 feet, 2 pack")),
        ),
        prices=(6, 250),
    ),
    Department(
        name="fashion",
        path="Clothing, Shoes & Jewelry",
        kinds=(
            *_kinds("Women", "maxi dress, yoga legging, ankle boot, knit cardigan, sun hat"),
            *_kinds("Men", "polo shirt, cargo short, running shoe, rain jacket, wool sock"),
            *_kinds("Accessories", "leather belt, canvas tote, wrist watch"),
        ),
        attributes=_list(
            "machine wash, hand wash, long sleeve, moisture wicking, elastic waist, rubber sole, "
            "memory foam, polyester spandex, quick drying, arch support, button closure, faux fur"
        ),
        options=(
            ("color", _list("black, dark navy, burgundy, olive green, heather grey, pink")),
            ("size", _list("small, medium, x-large, 7.5 wide, 9/10")),
            ("fit type", _list("regular, relaxed")),
        ),
        prices=(8, 120),
    ),
)
