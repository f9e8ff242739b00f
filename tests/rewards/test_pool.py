from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewards.base import Sample, Score, Verdict
from rewards.math_answer import MathAnswer, MathAnswerConfig
from rewards.pool import PoolConfig, RestartStormError, WorkerPool
from tests.rewards.hostile import Hostile, NotAScoreReward, Reporter, Unpicklable

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 1.0


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(PoolConfig(num_workers=2, item_timeout_s=LIMIT_S)) as pool:
        yield pool


def sample(completion: str) -> Sample:
    return Sample(completion=completion, reference={"answer": "1"})


def judge(pool: WorkerPool, *completions: str) -> list[Score]:
    return pool.score(Hostile(), [sample(text) for text in completions])


@pytest.mark.parametrize("act", ["hang", "hang_in_c", "stubborn"])
def test_a_hanging_sample_is_killed_in_time_and_the_pool_goes_on(
    pool: WorkerPool, act: str
) -> None:
    start = time.monotonic()
    stuck, fine = judge(pool, f"{act} {time.time()}", "fine")
    assert stuck.verdict is Verdict.TIMEOUT and stuck.value == Hostile.failure_value
    assert fine.verdict is Verdict.CORRECT and fine.detail == "fine"
    assert time.monotonic() - start < LIMIT_S + 10


@pytest.mark.parametrize(
    ("act", "cause"),
    [("die", "signal:9"), ("corrupt", "protocol"), ("raise", "KeyError"), ("nan", "value:nan")],
)
def test_a_crash_is_a_verdict_with_its_cause(pool: WorkerPool, act: str, cause: str) -> None:
    crashed, fine = judge(pool, f"{act} {time.time()}", "fine")
    assert crashed.verdict is Verdict.CRASHED and crashed.value == Hostile.failure_value
    assert cause in crashed.detail
    assert fine.value == 1.0


def test_a_memory_bomb_is_stopped_by_the_address_space_limit() -> None:
    config = PoolConfig(num_workers=1, item_timeout_s=20.0, memory_bytes=512 * 1024**2)
    with WorkerPool(config) as pool:
        bomb, fine = judge(pool, "memory", "fine")
    assert bomb.verdict is Verdict.CRASHED and "MemoryError" in bomb.detail
    assert fine.value == 1.0


def test_printing_does_not_disturb_the_protocol(pool: WorkerPool) -> None:
    assert [score.detail for score in judge(pool, "print", "a", "print 2")] == [
        "printed",
        "a",
        "printed",
    ]


def test_200_samples_with_5_percent_hangs_are_bounded_and_the_others_right() -> None:
    texts = [f"hang {i}" if i % 20 == 0 else f"text {i}" for i in range(200)]
    with WorkerPool(PoolConfig(num_workers=2, item_timeout_s=0.5)) as pool:
        judge(pool, "start the workers")
        start = time.monotonic()
        scores = judge(pool, *texts)
        seconds = time.monotonic() - start
        assert pool.num_restarts == 10
    for text, score in zip(texts, scores, strict=True):
        expected = Verdict.TIMEOUT if text.startswith("hang") else Verdict.CORRECT
        assert score.verdict is expected and score.detail in (text, "limit:0.5s")
    assert seconds < 10 * (0.5 + 1.5)


def test_a_killer_is_remembered_and_costs_one_kill(pool: WorkerPool) -> None:
    text = f"hang {time.time()}"
    before = pool.num_restarts
    group = judge(pool, *[text] * 8)
    again = judge(pool, text)
    assert {score.verdict for score in group + again} == {Verdict.TIMEOUT}
    assert pool.num_restarts == before + 1


def test_equal_samples_are_judged_once_and_order_is_kept(pool: WorkerPool) -> None:
    samples = [Sample(completion="pid", reference={"row": i % 2}) for i in range(10)]
    scores = pool.score(Reporter(), samples)
    assert len({id(score) for score in scores}) == 2
    assert [id(score) for score in scores] == [id(scores[i % 2]) for i in range(10)]


def test_the_batch_deadline_ends_the_call() -> None:
    config = PoolConfig(num_workers=1, item_timeout_s=30.0, batch_timeout_s=2.0)
    with WorkerPool(config) as pool:
        start = time.monotonic()
        scores = judge(pool, "hang 1", "hang 2", "hang 3")
    assert time.monotonic() - start < 10
    assert [score.verdict for score in scores] == [Verdict.TIMEOUT] * 3
    assert scores[2].detail == "batch_deadline"


def test_a_restart_storm_stops_the_run() -> None:
    config = PoolConfig(num_workers=1, max_restarts=2)
    with WorkerPool(config) as pool, pytest.raises(RestartStormError, match="max_restarts=2"):
        judge(pool, *[f"die {i}" for i in range(6)])


def test_several_threads_share_the_workers(pool: WorkerPool) -> None:
    results: dict[int, list[Score]] = {}
    threads = [
        threading.Thread(
            target=lambda i=i: results.update({i: judge(pool, *[f"{i}-{j}" for j in range(20)])})
        )
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for i in range(4):
        assert [score.detail for score in results[i]] == [f"{i}-{j}" for j in range(20)]


def test_it_works_inside_an_event_loop(pool: WorkerPool) -> None:
    async def main() -> tuple[list[Score], list[Score]]:
        away = await asyncio.to_thread(judge, pool, "in a thread")
        return away, judge(pool, "in the loop", f"hang {time.time()}")

    away, here = asyncio.run(main())
    assert away[0].detail == "in a thread"
    assert [score.verdict for score in here] == [Verdict.CORRECT, Verdict.TIMEOUT]


def test_workers_do_not_import_torch_or_the_main_module(pool: WorkerPool) -> None:
    texts = ["torch", "main", "rewards", "cwd"]
    scores = pool.score(Reporter(), [sample(text) for text in texts])
    torch, main, package, directory = (score.detail for score in scores)
    assert torch == "False" and main == "none" and directory == "[]"
    assert Path(package).parent == ROOT / "rewards"


def test_columns_arrive_as_json_would_store_them(pool: WorkerPool) -> None:
    row = {"path": Path("a/b"), "pair": (1, 2), "text": "\ud800 \U0001f600", "none": None}
    (score,) = pool.score(Reporter(), [Sample(completion="reference", reference=row)])
    expected = {"path": "a/b", "pair": [1, 2], "text": row["text"], "none": None}
    assert score.detail == repr(expected)


def test_a_reward_that_returns_a_number_is_a_crash_with_a_hint(pool: WorkerPool) -> None:
    (score,) = pool.score(NotAScoreReward(), [sample("x")])  # type: ignore[arg-type]  # the point
    assert score.verdict is Verdict.CRASHED and "not a rewards.base.Score" in score.detail


def test_a_reward_that_cannot_be_sent_is_an_error_that_says_why(pool: WorkerPool) -> None:
    with pytest.raises(ValueError, match="cannot be pickled"):
        pool.score(Unpicklable(), [sample("x")])


def test_a_reward_whose_module_is_unknown_to_the_worker_is_an_error(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = type(sys)("module_without_file")
    homeless = type("Homeless", (Hostile,), {"__module__": "module_without_file"})
    module.Homeless = homeless  # type: ignore[attr-defined]  # built by hand
    monkeypatch.setitem(sys.modules, "module_without_file", module)
    with pytest.raises(ValueError, match="cannot be loaded in a worker"):
        pool.score(homeless(), [sample("x")])


def test_math_answers_survive_pickling_and_agree_with_the_process(pool: WorkerPool) -> None:
    reward = pickle.loads(pickle.dumps(MathAnswer(MathAnswerConfig(value_malformed=-1.0))))
    samples = [
        Sample(completion=r"\boxed{1+x}", reference={"answer": "x+1"}),
        Sample(completion=r"\boxed{x+2}", reference={"answer": "x+1"}),
        Sample(completion="no box", reference={"answer": "x+1"}),
    ]
    assert [score.value for score in pool.score(reward, samples)] == [1.0, 0.0, -1.0]


def test_hard_algebra_is_killed_at_the_limit_of_the_reward(pool: WorkerPool) -> None:
    reward = MathAnswer(MathAnswerConfig(timeout_s=1.0))
    gold = "(x+y+z+w)^{200}"
    pred = "((x+y)^2+2(x+y)(z+w)+(z+w)^2)^{100}"
    samples = [Sample(completion=rf"\boxed{{{pred}}}", reference={"answer": gold})]
    start = time.monotonic()
    (score,) = pool.score(reward, samples)
    assert time.monotonic() - start < 15
    assert score.verdict in (Verdict.TIMEOUT, Verdict.CRASHED) and score.value == 0.0


def test_close_kills_the_workers_and_the_pool_can_be_used_again() -> None:
    pool = WorkerPool(PoolConfig(num_workers=1))
    (first,) = pool.score(Reporter(), [sample("pid")])
    pool.close()
    assert not _is_running(int(first.detail))
    (second,) = pool.score(Reporter(), [sample("pid")])
    pool.close()
    assert first.detail != second.detail


def _use_in_child(pool: WorkerPool, results: multiprocessing.SimpleQueue[str]) -> None:
    (score,) = pool.score(Reporter(), [sample("pid")])
    pool.close()
    results.put(score.detail)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_workers_of_its_own() -> None:
    with WorkerPool(PoolConfig(num_workers=1)) as pool:
        (mine,) = pool.score(Reporter(), [sample("pid")])
        context = multiprocessing.get_context("fork")
        results: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
        child = context.Process(target=_use_in_child, args=(pool, results))
        child.start()
        child.join(timeout=60)
        (again,) = pool.score(Reporter(), [sample("pid")])
    assert child.exitcode == 0
    assert results.get() != mine.detail == again.detail


_PARENT = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
from rewards.base import Sample
from rewards.pool import PoolConfig, WorkerPool
from tests.rewards.hostile import Hostile, Reporter

def main():
    pool = WorkerPool(PoolConfig(num_workers=2, item_timeout_s=float(sys.argv[2])))
    one = Sample(completion="pid", reference={})
    print(pool.score(Reporter(), [one])[0].detail, flush=True)
    if sys.argv[3] == "hang":
        hang = Sample(completion="hang_in_c", reference={})
        threading.Thread(target=pool.score, args=(Hostile(), [hang]), daemon=True).start()
        time.sleep(0.5)
        print("hanging", flush=True)
    time.sleep(600)

main()
"""


@pytest.mark.parametrize("state", ["idle", "hang"])
def test_no_worker_outlives_a_parent_that_is_killed(tmp_path: Path, state: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT, encoding="utf-8")
    command = [sys.executable, str(script), str(ROOT), "1.0", state]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        if state == "hang":
            assert parent.stdout.readline() == "hanging\n"
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while _is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(worker)


def test_bad_settings_are_refused_with_the_value() -> None:
    with pytest.raises(ValueError, match="item_timeout_s=0"):
        PoolConfig(item_timeout_s=0)
    with pytest.raises(ValueError, match="num_workers=0"):
        PoolConfig(num_workers=0)
    with pytest.raises(ValueError, match="memory_bytes=1000"):
        PoolConfig(memory_bytes=1000)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
