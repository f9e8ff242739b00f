from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from rewards.webshop.catalogue import Catalogue, catalogue_from_raw, read_files, write_files
from rewards.webshop.config import ShopConfig
from rewards.webshop.generator import generate
from rewards.webshop.open_shop import shop_for
from tests.rewards.webshop.toy_shop import raw_files

PART = Path(__file__).resolve().parents[2] / "data" / "webshop"
SHA256_300_SEED_11 = "d50f8602c5280fa08eda74b66550b437a030829dc1879b9206e27eec1cceeb8d"


def digest(folder: Path) -> str:
    content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    return hashlib.sha256(content).hexdigest()


def test_files_in_the_official_format_are_loaded() -> None:
    raw = read_files(PART)
    catalogue = catalogue_from_raw(raw)
    rows = [row for rows in raw.instructions.values() for row in rows]
    usable = [row for row in rows if row["instruction_attributes"]]
    assert len(catalogue.products) == 14 and len(rows) > len(usable) == len(catalogue.goals)
    assert {product.price_tag for product in catalogue.products} >= {"$100.0"}
    assert any(" to " in product.price_tag for product in catalogue.products)
    synthetic = catalogue_from_raw(raw, goal_kind="synthetic")
    assert all(isinstance(option, tuple) for goal in synthetic.goals for option in goal.options)


def test_only_part_of_the_product_file_may_be_read() -> None:
    assert len(read_files(PART, num_products=3).items) == 3


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"exactly one file items_shuffle\*\.json, found none"):
        read_files(tmp_path)


def test_an_empty_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="no product"):
        Catalogue((), ())


def test_the_same_seed_gives_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    write_files(generate(300, seed=11), tmp_path)
    assert digest(tmp_path) == SHA256_300_SEED_11


def test_another_seed_gives_other_products_and_more_products_keep_the_first() -> None:
    assert generate(20, seed=1).items != generate(20, seed=2).items
    assert generate(40, seed=1).items[:20] == generate(20, seed=1).items


def test_generated_files_survive_writing_and_reading(tmp_path: Path) -> None:
    raw = generate(50, seed=3)
    write_files(raw, tmp_path)
    assert read_files(tmp_path) == raw


def test_identifiers_are_unique_and_of_the_official_length() -> None:
    asins = [item["asin"] for item in generate(3000, seed=5).items]
    assert len(set(asins)) == 3000 and {len(asin) for asin in asins} == {10}


@pytest.mark.parametrize("num_products", [0, -1, 1_000_001])
def test_a_size_out_of_range_is_refused(num_products: int) -> None:
    with pytest.raises(ValueError, match="num_products"):
        generate(num_products)


def test_goals_are_split_by_number() -> None:
    catalogue = catalogue_from_raw(generate(1000, seed=0))
    names = ("test", "validation", "train")
    parts = [catalogue.split(name) for name in names]  # type: ignore[arg-type]  # literal in a loop
    assert [len(part) for part in parts] == [500, 1000, 500]
    assert parts[0] + parts[1] + parts[2] == catalogue.goals


def test_a_shop_of_three_thousand_products_opens_in_seconds() -> None:
    start = time.perf_counter()
    shop_for(ShopConfig(num_products=3000, seed=99))
    assert time.perf_counter() - start < 5.0  # 0.4 s on one core of a laptop-class processor


def test_equal_settings_share_a_shop_and_other_settings_share_the_catalogue() -> None:
    shop, other = shop_for(ShopConfig(num_products=30)), shop_for(ShopConfig(num_products=30))
    rich = shop_for(ShopConfig(num_products=30, observation_mode="text_rich"))
    assert shop is other and rich is not shop and rich.catalogue is shop.catalogue


def test_a_goal_of_another_catalogue_is_an_error() -> None:
    with pytest.raises(ValueError, match="not among the 1 goals"):
        _ = catalogue_from_raw(raw_files()).goal("B9-0")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "web"}, "source='web'"),
        ({"source": "files"}, "folder"),
        ({"folder": "x"}, "folder"),
        ({"goal_kind": "robot"}, "goal_kind"),
        ({"nouns": "all"}, "nouns"),
        ({"observation_mode": "html"}, "observation_mode"),
        ({"num_products": 0}, "num_products"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShopConfig(**settings)  # type: ignore[arg-type]  # wrong on purpose
