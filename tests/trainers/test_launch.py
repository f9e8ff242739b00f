"""The launcher with a stand-in for trainers.build; the real one has end-to-end tests of its own."""

import logging
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import trainers
from trainers import launch, launch_checks, siblings
from trainers.launch import LaunchOptions, main
from trainers.recipe import RawRecipe, RecipeError
from trainers.recipe_format import TRAILER

ROOT = Path(__file__).resolve().parents[2]
BODY = "trainer:\n  learning_rate: 1.0e-6\nlogging:\n  output_dir: runs/a\n"


class StandInBuild(types.ModuleType):
    """Keeps what `run` was called with; raises `error` if there is one."""

    def __init__(self) -> None:
        super().__init__("trainers.build")
        self.calls: list[tuple[RawRecipe, LaunchOptions]] = []
        self.error: BaseException | None = None

    def run(self, raw: RawRecipe, options: LaunchOptions) -> None:
        self.calls.append((raw, options))
        if self.error is not None:
            raise self.error


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInBuild]:
    stand_in = StandInBuild()
    monkeypatch.setitem(sys.modules, "trainers.build", stand_in)
    monkeypatch.setattr(trainers, "build", stand_in, raising=False)
    monkeypatch.setattr(launch_checks, "num_accelerators", lambda: 0)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    levels = {name: logging.getLogger(name).level for name in siblings.PACKAGES}
    yield stand_in
    for name, level in levels.items():  # the launcher sets them for the whole process
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(f'about: r""" a test\n{BODY}{TRAILER}\n')
    return path


def test_the_recipe_reaches_build_with_the_cpu_settled(build: StandInBuild, recipe: Path) -> None:
    main(str(recipe), "__main__", [])
    raw, options = build.calls[0]
    assert (raw.path, raw.about) == (recipe, "a test")
    assert raw.sections["trainer"] == {"learning_rate": 1e-6, "use_cpu": True, "bf16": False}
    assert options == LaunchOptions(resume=None, dry_run=False)


def test_nothing_happens_in_a_spawned_child(build: StandInBuild, recipe: Path) -> None:
    main(str(recipe), "__mp_main__", [])
    assert build.calls == []


def test_the_recipe_may_be_the_first_argument(build: StandInBuild, recipe: Path) -> None:
    main(None, "__main__", [str(recipe), "--dry_run"])
    assert build.calls[0][0].path == recipe
    assert build.calls[0][1] == LaunchOptions(dry_run=True)


@pytest.mark.parametrize(
    ("argv", "resume"),
    [([], None), (["--resume"], "auto"), (["--resume", "auto"], "auto"), (["--resume=a/b"], "a/b")],
)
def test_resume_without_a_value_means_auto(
    build: StandInBuild, recipe: Path, argv: list[str], resume: str | None
) -> None:
    main(str(recipe), "__main__", argv)
    assert build.calls[0][1].resume == resume


def test_overrides_and_output_folder_are_applied(build: StandInBuild, recipe: Path) -> None:
    argv = ["--set", "rollout.width=8", "--set=trainer.max_steps=3", "--output_dir", "12"]
    main(str(recipe), "__main__", argv)
    sections = build.calls[0][0].sections
    assert sections["rollout"] == {"width": 8}
    assert sections["trainer"]["max_steps"] == 3
    assert sections["logging"] == {"output_dir": "12"}


def test_the_output_folder_of_a_warm_start_is_its_own(build: StandInBuild, recipe: Path) -> None:
    recipe.write_text(f'about: r""" t\nkind: warmstart\nwarmstart:\n  output: a\n{TRAILER}\n')
    main(str(recipe), "__main__", ["--output_dir", "b"])
    assert build.calls[0][0].sections == {"warmstart": {"output": "b"}}


@pytest.mark.parametrize("argument", ["--local_rank=1", "--local-rank=1"])
def test_the_argument_of_the_deepspeed_runner_is_ignored(
    build: StandInBuild, recipe: Path, argument: str
) -> None:
    main(str(recipe), "__main__", [argument])
    assert len(build.calls) == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dryrun"], "error: unknown argument --dryrun; did you mean --dry_run?"),
        (
            ["rollout.width=8"],
            "error: unknown argument rollout.width=8; write: --set rollout.width=8",
        ),
        (["--set"], "error: argument --set: expected one argument; see --help"),
        (["--set", "rolout.width=8"], "rolout: unknown section; did you mean rollout?"),
        (["--set", "trainer.use_cpu=false"], "trainer.use_cpu=false asks for a GPU"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    build: StandInBuild,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(str(recipe), "__main__", argv)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert build.calls == []


@pytest.mark.parametrize("error", [RecipeError("x: bad\nvalue"), ValueError("x: bad\nvalue")])
def test_a_check_that_fails_in_build_is_one_line(
    build: StandInBuild, recipe: Path, capsys: pytest.CaptureFixture[str], error: ValueError
) -> None:
    build.error = error
    with pytest.raises(SystemExit) as caught:
        main(str(recipe), "__main__", [])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: x: bad value\n"


def test_other_ranks_are_silent(
    build: StandInBuild,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "1")
    build.error = RecipeError("bad")
    with pytest.raises(SystemExit):
        main(str(recipe), "__main__", [])
    assert capsys.readouterr().err == ""


def test_the_traceback_can_be_asked_for(build: StandInBuild, recipe: Path) -> None:
    build.error = RecipeError("bad")
    with pytest.raises(RecipeError, match="bad"):
        main(str(recipe), "__main__", ["--traceback"])


def test_other_errors_keep_their_traceback(build: StandInBuild, recipe: Path) -> None:
    build.error = RuntimeError("a fault")
    with pytest.raises(RuntimeError, match="a fault"):
        main(str(recipe), "__main__", [])


def test_a_value_error_out_of_the_optimizer_loop_keeps_its_traceback(
    build: StandInBuild, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop: dict[str, object] = {"__name__": "transformers.trainer"}
    exec("def train(): raise ValueError('a fault')", loop)
    monkeypatch.setattr(build, "run", lambda raw, options: loop["train"]())  # type: ignore[operator]  # made by exec
    with pytest.raises(ValueError, match="a fault"):
        main(str(recipe), "__main__", [])


def test_an_interrupted_run_says_how_to_go_on(
    build: StandInBuild, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build.error = KeyboardInterrupt()
    with pytest.raises(SystemExit) as caught:
        main(str(recipe), "__main__", [])
    assert caught.value.code == 130
    assert "--resume" in capsys.readouterr().err


def test_paths_below_the_current_directory_are_shown_short(
    build: StandInBuild, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parent)
    main(str(recipe), "__main__", [])
    assert build.calls[0][0].path == Path("x.yaml")


# ---- real processes ---------------------------------------------------------------------------

SHOWING_BUILD = """
import os
import sys
import types
import trainers

def run(raw, options):
    from transformers import TrainingArguments
    args = TrainingArguments(output_dir="unused", report_to="none", **raw.sections["trainer"])
    from trainers.launch_checks import check_world_size
    check_world_size(args.world_size, os.environ)
    # One write: two processes share the pipe.
    sys.stdout.write(f"rank {args.process_index} of {args.world_size} {options}\\n")
    sys.stdout.flush()

build = types.ModuleType("trainers.build")
build.run = run
sys.modules["trainers.build"] = trainers.build = build
from trainers.launch import main
"""


def run_process(
    folder: Path, command: list[str], **environ: str
) -> subprocess.CompletedProcess[str]:
    (folder / "showing_build.py").write_text(SHOWING_BUILD)
    trailer = '# """; from showing_build import main; main(__file__, __name__)'
    text = f'about: r""" a test\n{BODY}{TRAILER}\n'
    (folder / "x.yaml").write_text(text)
    # The program under test: a recipe's Python half with another import in its last line.
    (folder / "x_shown.py").write_text(
        text.replace(TRAILER, trailer).replace("__file__", "'x.yaml'")
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "MASTER_ADDR")}
    return subprocess.run(
        command,
        cwd=folder,
        env={
            **clean,
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def accelerate(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "accelerate.commands.launch", *arguments]


@pytest.mark.distributed
def test_cpu_2_gives_two_processes_that_see_each_other(tmp_path: Path) -> None:
    config = str(ROOT / "accelerate_configs" / "cpu_2.yaml")
    run = run_process(
        tmp_path,
        accelerate("--config_file", config, "--main_process_port", "0", "x_shown.py", "--resume"),
    )
    assert run.returncode == 0, run.stderr
    ranks = sorted(line for line in run.stdout.splitlines() if line.startswith("rank"))
    options = LaunchOptions(resume="auto")
    assert ranks == [f"rank 0 of 2 {options}", f"rank 1 of 2 {options}"]


@pytest.mark.distributed
def test_the_wrong_way_to_two_cpu_processes_is_refused(tmp_path: Path) -> None:
    run = run_process(tmp_path, accelerate("--cpu", "--num_processes", "2", "x_shown.py"))
    assert run.returncode != 0
    assert (
        "error: accelerate --cpu (or MULTI_CPU) with several processes starts only one"
        in run.stderr
    )
    assert "rank" not in run.stdout


def test_a_broken_recipe_fails_fast_and_without_a_traceback(tmp_path: Path) -> None:
    run = run_process(tmp_path, [sys.executable, "-m", "trainers", "no.yaml"])
    assert run.returncode == 2
    assert run.stderr.startswith("error: no.yaml: cannot be read")
    assert len(run.stderr.splitlines()) == 1


def test_importing_the_launcher_loads_no_heavy_library() -> None:
    heavy = ["torch", "transformers", "trl", "pydantic", "accelerate", "deepspeed"]
    code = f"import sys, trainers.launch, trainers.cli; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


def test_the_flags_that_are_suggested_exist() -> None:
    with pytest.raises(SystemExit):
        main("x.yaml", "__main__", ["--help"])
    assert "--dry_run" in launch._FLAGS
