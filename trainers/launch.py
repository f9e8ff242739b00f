"""The one way into a run: `accelerate launch recipes/x.yaml`, `python -m trainers`, `ramify train`.

A recipe is a Python program whose last statement calls `main`; the other two name the recipe as
first argument. Whatever is wrong with what the user wrote ends with one line on standard error and
exit code 2, on rank 0 only; a run whose reward keeps failing ends with one line and 1. A stop by
Ctrl-C or SIGTERM that was saved ends with 0, one that was not with 130.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from rewards.combine import RewardFailureError
from trainers import siblings
from trainers.launch_checks import check_environment, settle_device
from trainers.quiet import quiet_libraries
from trainers.recipe import RawRecipe, RecipeError, read_recipe
from trainers.recipe_decoding import nearest

_FLAGS = ("--set", "--resume", "--dry_run", "--output_dir", "--traceback", "--help")
_OUTPUT_KEYS = {"train": "logging.output_dir", "warmstart": "warmstart.output"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """What the command line says besides the recipe."""

    resume: str | None = None
    """None: start fresh; auto: newest complete checkpoint, else fresh; otherwise a checkpoint."""
    dry_run: bool = False
    """Check everything, show the plan, train nothing."""


def main(
    path: str | Path | None = None, name: str = "__main__", argv: Sequence[str] | None = None
) -> None:
    """Run a recipe; the last line of every recipe calls this.

    Args:
        path: The recipe; None takes it from the first argument.
        name: `__name__` of the caller. Child processes that are started by spawn run the recipe
            again under another name: nothing happens then.
        argv: Arguments; None means those of the process.

    Raises:
        SystemExit: with code 2 or 130, if the run did not go through.
    """
    if name != "__main__":
        return
    siblings.check()
    arguments = list(sys.argv[1:] if argv is None else argv)
    show_traceback = "--traceback" in arguments
    try:
        raw, options = _prepare(path, arguments)
        _run(raw, options)
    except ValueError as error:
        if show_traceback or _raised_in_training(error.__traceback__):
            raise
        _complain(f"error: {' '.join(str(error).split())}")
        sys.exit(2)
    except RewardFailureError as error:
        if show_traceback:
            raise
        _complain(f"error: {' '.join(str(error).split())}")
        sys.exit(1)
    except KeyboardInterrupt:
        _complain("interrupted; the same command with --resume goes on from the newest checkpoint")
        sys.exit(130)


def _prepare(path: str | Path | None, arguments: list[str]) -> tuple[RawRecipe, LaunchOptions]:
    """Read the recipe and everything else that needs no model."""
    given = _parse(path, arguments)
    overrides = list(given.set)
    recipe = _from_here(Path(given.recipe))
    if given.output_dir is not None:
        key = _OUTPUT_KEYS[read_recipe(recipe).kind]
        overrides.append(f"{key}={json.dumps(given.output_dir)}")
    raw = read_recipe(recipe, overrides)
    check_environment(raw, os.environ)
    _show_progress()
    raw = settle_device(raw, os.environ)
    return raw, LaunchOptions(resume=given.resume, dry_run=given.dry_run)


def _run(raw: RawRecipe, options: LaunchOptions) -> None:
    quiet_libraries()
    from trainers import build  # imports torch and trl: only when the recipe has been read

    build.run(raw, options)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise, so that wrong arguments end like wrong recipes."""
        raise RecipeError(f"{message}; see --help")


def _parse(path: str | Path | None, arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="ramify train", allow_abbrev=False, description="Run a recipe.")
    if path is None:
        parser.add_argument("recipe", help="a file of recipes/")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one value, for example rollout.width=8 or rewards.0.weight=2.0",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from a checkpoint folder; without one: from the newest complete one, if any",
    )
    parser.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    parser.add_argument("--output_dir", help="folder of the run, relative to the current directory")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    # The deepspeed runner adds this; the rank is read from the environment.
    parser.add_argument("--local_rank", "--local-rank", help=argparse.SUPPRESS)
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise RecipeError(_unknown_argument(unknown[0]))
    if path is not None:
        given.recipe = path
    return given


def _unknown_argument(argument: str) -> str:
    name = argument.partition("=")[0]
    if "=" in argument and not argument.startswith("-"):
        return f"unknown argument {argument}; write: --set {argument}"
    return f"unknown argument {argument}{nearest(name, _FLAGS)}"


def _from_here(path: Path) -> Path:
    """The path relative to the current directory if it lies below, for short messages."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


def _show_progress() -> None:
    """Log our own packages: one line per phase on rank 0, warnings with their rank elsewhere."""
    rank = _rank()
    logging.basicConfig(
        format=f"%(levelname)s {f'rank {rank} ' if rank else ''}%(name)s: %(message)s"
    )
    for package in siblings.PACKAGES:
        logging.getLogger(package).setLevel(logging.WARNING if rank else logging.INFO)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _complain(line: str) -> None:
    if _rank() == 0:
        sys.stderr.write(f"{line}\n")


def _raised_in_training(traceback: TracebackType | None) -> bool:
    """Whether the optimizer loop was running: then an error is a fault, not a wrong recipe."""
    while traceback is not None:
        frame = traceback.tb_frame
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == (
            "transformers.trainer",
            "train",
        ):
            return True
        traceback = traceback.tb_next
    return False
