"""The prompt store: visits, duplicates, unscorable rewards, files and checksums."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from trainers.advantages import RewardStats, StdKind, smooth_advantages
from trainers.prompt_store import PromptStore, PromptStoreError

NAN = math.nan


def _filled(std: StdKind = "population") -> PromptStore:
    store = PromptStore(std)
    store.visit(["p"] * 4 + ["q"] * 4, [1, 0, 0, 0, 0.1, 0.1, 0.1, 0.1])
    store.visit(["q"] * 3 + ["r"] * 2, [0.3, 0.1, 0.7, 1, -1])
    return store


def test_three_visits_give_the_worked_advantages() -> None:
    store = PromptStore()
    got = [store.visit(["p"] * 4, r)[0] for r in ([1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 1])]
    assert got[0] == pytest.approx([1.732051] + [-0.577350] * 3, abs=6e-7)
    assert got[1] == pytest.approx([0.387298] * 4, abs=6e-7)
    assert got[2] == pytest.approx([0.620602, 0.620602, -1.520159, 0.620602], abs=6e-7)
    assert store.get("p").visits == 3


def test_sample_mode_gives_the_advantages_of_the_published_code() -> None:
    store = PromptStore("sample")
    got = [store.visit(["p"] * 4, r)[0] for r in ([1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 1])]
    assert got[0] == pytest.approx([1.5] + [-0.5] * 3, abs=6e-7)
    assert got[1] == pytest.approx([0.363803] * 4, abs=6e-7)
    assert got[2] == pytest.approx([0.549629, 0.549629, -1.365181, 0.549629], abs=6e-7)


def test_a_prompt_twice_in_a_batch_is_one_visit() -> None:
    store = PromptStore()
    store.visit(["p", "p"], [0, 1])
    ids = ["p", "p", "q", "q", "p", "p"]
    advantages, stats = store.visit(ids, [1, 0, 1, 0, 1, 1])
    expected, after = smooth_advantages(
        [1, 0, 1, 1], RewardStats(visits=1, count=2, mean=0.5, m2=0.5)
    )
    assert [advantages[k] for k in (0, 1, 4, 5)] == expected
    assert store.get("p") == after
    assert store.get("p").visits == 2
    assert stats.num_prompts == 2


def test_rows_in_any_order_give_the_same_advantages_and_store() -> None:
    rng = random.Random(0)
    ids = [f"p{k % 7}" for k in range(60)]
    one, other = PromptStore(), PromptStore()
    for _ in range(4):
        rewards = [rng.choice([0.1, 0.3, NAN, 1.0]) for _ in ids]
        order = rng.sample(range(60), k=60)
        straight, _ = one.visit(ids, rewards)
        mixed, _ = other.visit([ids[k] for k in order], [rewards[k] for k in order])
        assert mixed == [straight[k] for k in order]
    assert one.checksum() == other.checksum()


def test_unscorable_rows_get_zero_and_all_unscorable_prompts_are_not_visited() -> None:
    store = PromptStore()
    advantages, stats = store.visit(["p", "p", "p", "q", "q"], [1, NAN, 0, NAN, NAN])
    assert advantages == [1.0, 0.0, -1.0, 0.0, 0.0]
    assert store.get("q") == RewardStats()
    assert len(store) == 1
    assert (stats.num_prompts, stats.num_unscorable_prompts) == (1, 1)
    before = store.checksum()
    store.visit(["p", "p"], [NAN, NAN])
    assert store.checksum() == before


def test_statistics_of_a_visit() -> None:
    store = PromptStore()
    store.visit(["p"] * 2, [1, 0])
    ids = ["p", "p", "q", "q", "r", "r", "s", "s"]
    _, stats = store.visit(ids, [1, 1, 0, 1, 0.1, NAN, NAN, NAN])
    assert stats.metrics() == {
        "reward/first_visit_frac": 2 / 3,
        "reward/uniform_frac": 2 / 3,
        "reward/mean_visits": 4 / 3,
        "reward/unscorable_prompts": 1.0,
        "reward/store_size": 3.0,
    }
    assert stats.sigma_total[:4] == pytest.approx([math.sqrt(3 / 16)] * 2 + [0.5] * 2)
    assert stats.sigma_total[4:] == (0.0,) * 4


def test_an_empty_batch_is_no_visit() -> None:
    advantages, stats = PromptStore().visit([], [])
    assert advantages == []
    assert stats.metrics()["reward/mean_visits"] == 0.0


def test_weights_reach_the_statistics() -> None:
    store = PromptStore()
    store.visit(["p", "q", "p"], [1.0, 5.0, 0.0], weights=[0.75, 1.0, 0.25])
    assert store.get("p").mean == 0.75
    assert store.get("p").std == pytest.approx(math.sqrt(0.75 * 0.25))


@pytest.mark.parametrize("bad_id", ["", None, 0, 7])
def test_a_missing_prompt_id_is_an_error_and_records_nothing(bad_id: object) -> None:
    store = PromptStore()
    with pytest.raises(ValueError, match="non-empty string"):
        store.visit(["p", bad_id], [1, 0])  # type: ignore[list-item]  # the wrong type is the test
    assert len(store) == 0


@pytest.mark.parametrize("reward", [math.inf, -math.inf])
def test_an_infinite_reward_is_an_error_and_records_nothing(reward: float) -> None:
    store = PromptStore()
    with pytest.raises(ValueError, match="row 1"):
        store.visit(["p", "p"], [1, reward])
    assert len(store) == 0


def test_columns_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 prompt ids, 1 rewards"):
        PromptStore().visit(["p", "p"], [1.0])
    with pytest.raises(ValueError, match="0 weights"):
        PromptStore().visit(["p"], [1.0], weights=[])


# ---- files


@pytest.mark.parametrize("std", ["population", "sample"])
def test_a_resumed_store_gives_identical_advantages(tmp_path: Path, std: StdKind) -> None:
    store = _filled(std)
    store.save(tmp_path / "store.jsonl")
    resumed = PromptStore.load(tmp_path / "store.jsonl", std=std)
    assert resumed.checksum() == store.checksum()
    ids, rewards = ["q"] * 3 + ["new"] * 2, [0.1, 0.7, 1 / 3, 0.0, 1.0]
    assert resumed.visit(ids, rewards) == store.visit(ids, rewards)
    assert resumed.checksum() == store.checksum()


def test_unusual_prompt_ids_survive_the_file(tmp_path: Path) -> None:
    store = PromptStore()
    ids = ['a"b', "line\nbreak", "separator\u2028\x85", "\u00e9\U0001f600", " "]
    store.visit(ids, [1.0, 2.0, 3.0, 4.0, 5.0])
    store.save(tmp_path / "store.jsonl")
    loaded = PromptStore.load(tmp_path / "store.jsonl")
    assert [loaded.get(prompt_id).mean for prompt_id in ids] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_an_empty_store_survives_the_file(tmp_path: Path) -> None:
    PromptStore().save(tmp_path / "store.jsonl")
    assert len(PromptStore.load(tmp_path / "store.jsonl")) == 0


def test_checksum_ignores_insertion_order_and_notices_every_number() -> None:
    one, other = PromptStore(), PromptStore()
    one.visit(["p", "p", "q", "q"], [1, 0, 0.3, 0.7])
    other.visit(["q", "q", "p", "p"], [0.3, 0.7, 1, 0])
    assert one.checksum() == other.checksum()
    other.visit(["q"], [0.5])
    assert one.checksum() != other.checksum()
    assert PromptStore().checksum() != PromptStore("sample").checksum()


def test_saving_replaces_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "store.jsonl"
    path.write_text("old")
    _filled().save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.jsonl"]
    header = json.loads(path.read_text().splitlines()[0])
    assert (header["version"], header["num_prompts"]) == (1, 3)


def test_a_save_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.jsonl"
    _filled().save(path)
    before = path.read_text()

    def no_space(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("trainers.prompt_store.os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        PromptStore().save(path)
    assert path.read_text() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.jsonl"]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PromptStoreError, match=r"nowhere\.jsonl"):
        PromptStore.load(tmp_path / "nowhere.jsonl")


def _damaged(lines: list[str], kind: str) -> str:
    header = json.loads(lines[0])
    if kind == "empty":
        return ""
    if kind == "not_json":
        return "garbage\n"
    if kind == "json_list":
        return "[1, 2]\n"
    if kind == "version":
        return json.dumps(header | {"version": 2})
    if kind == "short_header":
        return json.dumps({key: header[key] for key in ("format", "version")})
    if kind == "truncated":
        return "\n".join(lines[:-1])
    if kind == "half_line":
        return "\n".join(lines)[:-8]
    if kind == "changed":
        return "\n".join(lines).replace("0.25", "0.35")
    return "\n".join([*lines, lines[-1]])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "is empty"),
        ("not_json", "no header"),
        ("json_list", "format and version None"),
        ("version", "format and version"),
        ("short_header", "lacks"),
        ("truncated", "damaged"),
        ("half_line", "damaged"),
        ("changed", "damaged"),
        ("doubled", "damaged"),
    ],
)
def test_a_damaged_file_is_an_error(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "store.jsonl"
    _filled().save(path)
    path.write_text(_damaged(path.read_text().splitlines(), kind))
    with pytest.raises(PromptStoreError, match=message):
        PromptStore.load(path)


def test_a_binary_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "store.jsonl"
    path.write_bytes(b"\x80\x04\xff")
    with pytest.raises(PromptStoreError, match="cannot read"):
        PromptStore.load(path)


def test_a_store_of_the_other_std_is_an_error(tmp_path: Path) -> None:
    _filled("sample").save(tmp_path / "store.jsonl")
    with pytest.raises(PromptStoreError, match="std='sample'"):
        PromptStore.load(tmp_path / "store.jsonl")
