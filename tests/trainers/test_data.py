import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from trainers.data import DataConfig, load_prompts
from trainers.tasks.chain_sums import ChainSumsConfig
from trainers.tasks.char_tokenizer import char_tokenizer

GSM8K = Path(__file__).resolve().parents[1] / "data" / "gsm8k"
TOKENIZER = char_tokenizer()
ROWS = [{"id": f"r{i}", "prompt": f"{i}+1=", "answer": i + 1, "level": i % 3} for i in range(12)]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **settings: object) -> None:
        raise ConnectionError("no network in tests\nsecond line")

    monkeypatch.setattr("trainers.data_sources.load_dataset", refuse)


def _jsonl(path: Path, rows: Sequence[object] = ROWS) -> str:
    text = "\n".join(json.dumps(row) for row in rows) + "\n"
    if path.suffix == ".gz":
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def _refusal(**settings: object) -> str:
    with pytest.raises(ValueError) as caught:
        load_prompts(DataConfig(**settings), TOKENIZER)  # type: ignore[arg-type]  # many types
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_embedded_task_brings_both_splits() -> None:
    sizes = ChainSumsConfig(train_size=32, heldout_size=16)
    data = load_prompts(DataConfig(train="chain_sums", chain_sums=sizes), TOKENIZER)
    assert data.heldout is not None
    assert (len(data.train), len(data.heldout)) == (32, 16)
    assert data.train[0]["prompt_id"] == f"chain_sums/{data.train[0]['prompt'][:-1]}"
    assert data.longest_prompt_tokens == 12


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.json"])
def test_json_lines_keep_their_columns(tmp_path: Path, name: str) -> None:
    data = load_prompts(DataConfig(train=_jsonl(tmp_path / name)), TOKENIZER)
    assert data.train[3] == {
        "id": "r3",
        "prompt": "3+1=",
        "answer": "4",
        "level": 0,
        "prompt_id": f"{name}/r3",
    }
    assert data.heldout is None


def test_parquet_gives_the_same_rows_as_json_lines(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    lines = load_prompts(DataConfig(train=_jsonl(tmp_path / "rows.jsonl")), TOKENIZER)
    table = load_prompts(DataConfig(train=str(tmp_path / "rows.parquet")), TOKENIZER)
    assert table.train["prompt"] == lines.train["prompt"]
    assert table.train["answer"] == lines.train["answer"]


def test_the_format_of_gsm8k_loads_as_chat() -> None:
    config = DataConfig(
        train=str(GSM8K / "train.jsonl"),
        heldout=str(GSM8K / "heldout.jsonl"),
        prompt_column="question",
        template="chat",
        system_prompt=r"Put your final answer within \boxed{}.",
    )
    data = load_prompts(config, TOKENIZER)
    row = data.train[0]
    assert data.heldout is not None
    assert (len(data.train), len(data.heldout)) == (48, 16)
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert row["prompt"][1]["content"] == row["question"]
    assert row["prompt_id"] == "train.jsonl/gsm8k-train-00000"
    assert row["answer"] == "72"


def test_another_answer_column_replaces_the_answer(tmp_path: Path) -> None:
    rows = [{"q": "1+1=", "solution": "two\n#### 2"}]
    config = DataConfig(
        train=_jsonl(tmp_path / "a.jsonl", rows), prompt_column="q", answer_column="solution"
    )
    assert load_prompts(config, TOKENIZER).train[0]["answer"] == "two\n#### 2"


def test_hub_data_sets_are_asked_for_by_name_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import Dataset

    asked = []

    def answer(source: str, name: str | None, *, split: str) -> Dataset:
        asked.append((source, name, split))
        return Dataset.from_list([{"prompt": f"{split}=", "answer": "1"}])

    monkeypatch.setattr("trainers.data_sources.load_dataset", answer)
    data = load_prompts(DataConfig(train="org/sums", heldout="org/sums", name="main"), TOKENIZER)
    assert asked == [("org/sums", "main", "train"), ("org/sums", "main", "test")]
    assert data.train[0]["prompt_id"].startswith("sums/")


def test_ids_without_an_id_column_are_hashes_of_the_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i}+1=", "answer": "x"} for i in range(4)]
    forward = load_prompts(DataConfig(train=_jsonl(tmp_path / "a.jsonl", rows)), TOKENIZER)
    (tmp_path / "other").mkdir()
    path = _jsonl(tmp_path / "other" / "a.jsonl", rows[::-1])
    backward = load_prompts(DataConfig(train=path), TOKENIZER)
    assert len(set(forward.train["prompt_id"])) == 4
    assert list(forward.train["prompt_id"]) == list(backward.train["prompt_id"])[::-1]


def test_heldout_size_takes_the_same_rows_off_whatever_their_order(tmp_path: Path) -> None:
    first = DataConfig(train=_jsonl(tmp_path / "a.jsonl"), heldout_size=5)
    data = load_prompts(first, TOKENIZER)
    _jsonl(tmp_path / "a.jsonl", ROWS[::-1])
    again = load_prompts(first, TOKENIZER)
    assert data.heldout is not None
    assert again.heldout is not None
    assert set(data.heldout["id"]) == set(again.heldout["id"])
    assert set(data.heldout["id"]) | set(data.train["id"]) == {row["id"] for row in ROWS}
    assert (len(data.heldout), len(data.train)) == (5, 7)


def test_long_prompts_are_dropped_and_counted(tmp_path: Path) -> None:
    data = load_prompts(
        DataConfig(train=_jsonl(tmp_path / "a.jsonl"), max_prompt_tokens=4), TOKENIZER
    )
    assert len(data.train) == 10
    assert data.num_dropped == 2
    assert data.longest_prompt_tokens == 4
    assert "dropped, too long          2" in data.describe()


def test_limit_keeps_the_first_rows(tmp_path: Path) -> None:
    data = load_prompts(DataConfig(train=_jsonl(tmp_path / "a.jsonl"), limit=3), TOKENIZER)
    assert list(data.train["id"]) == ["r0", "r1", "r2"]


def test_reading_a_file_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _jsonl(tmp_path / "a.jsonl")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    load_prompts(DataConfig(train=path), TOKENIZER)
    assert [found.name for found in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_missing_file_is_named_with_the_folder_looked_from() -> None:
    message = _refusal(train="nowhere/rows.jsonl")
    assert "nowhere/rows.jsonl: no such file" in message
    assert str(Path.cwd()) in message


def test_a_path_of_another_format_never_reaches_the_hub(tmp_path: Path) -> None:
    assert "use one of .jsonl" in _refusal(train=str(tmp_path / "rows.csv"))


def test_an_unreachable_hub_is_one_line() -> None:
    assert "loaded from the hub: no network in tests" in _refusal(train="org/sums")


def test_a_missing_column_lists_those_present(tmp_path: Path) -> None:
    message = _refusal(train=_jsonl(tmp_path / "a.jsonl"), prompt_column="question")
    assert "row 1: column 'question' is missing; it has answer, id, level, prompt" in message


@pytest.mark.parametrize("prompt", ["", 7, []])
def test_a_prompt_that_is_no_text_is_refused(tmp_path: Path, prompt: object) -> None:
    path = _jsonl(tmp_path / "a.jsonl", [{"prompt": prompt, "answer": "1"}])
    assert f"prompt={prompt!r}, expected text" in _refusal(train=path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "has no rows" in _refusal(train=_jsonl(tmp_path / "a.jsonl", []))


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    assert "a.jsonl:2: list instead" in _refusal(train=_jsonl(tmp_path / "a.jsonl", [ROWS[0], [1]]))
    (tmp_path / "b.jsonl").write_text("{oops\n")
    assert "b.jsonl:1: not JSON" in _refusal(train=str(tmp_path / "b.jsonl"))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet", "a.jsonl"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe damaged")
    assert str(tmp_path / name) in _refusal(train=str(tmp_path / name))


def test_a_repeated_prompt_id_is_refused(tmp_path: Path) -> None:
    message = _refusal(train=_jsonl(tmp_path / "a.jsonl", [*ROWS, ROWS[4]]))
    assert "'a.jsonl/r4' occurs twice" in message


def test_heldout_prompts_may_not_be_training_prompts(tmp_path: Path) -> None:
    train = _jsonl(tmp_path / "a.jsonl")
    heldout = _jsonl(tmp_path / "b.jsonl", [{"prompt": "5+1=", "answer": "6"}])
    assert "1 of 1 held-out prompts are also training prompts" in _refusal(
        train=train, heldout=heldout
    )


def test_a_limit_below_every_prompt_is_refused(tmp_path: Path) -> None:
    message = _refusal(train=_jsonl(tmp_path / "a.jsonl"), max_prompt_tokens=3)
    assert "max_prompt_tokens=3 tokens; the shortest has 4" in message


def test_heldout_size_must_leave_rows(tmp_path: Path) -> None:
    assert "leaves nothing of 12" in _refusal(train=_jsonl(tmp_path / "a.jsonl"), heldout_size=12)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"system_prompt": "x"}, "template=plain"),
        ({"heldout": "b", "heldout_size": 3}, "heldout_size has no effect"),
        ({"heldout_size": -1}, "heldout_size=-1"),
        ({"limit": 0}, "limit=0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        DataConfig(train="a", **settings)  # type: ignore[arg-type]  # values of many types
