"""The command `ramify`: train, evaluate, serve, look at runs, and more. Heavy libraries load only when needed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from trainers import siblings
from trainers.recipe_decoding import nearest

_HELP = """usage: ramify COMMAND ...

commands:
  train RECIPE            run a recipe (also: accelerate launch RECIPE)
  lint RECIPE ...         check recipes without running them
  doctor                  show versions and devices, say what is missing
  eval CHECKPOINT         Avg@k, pass@k and maj@k on held-out prompts
  serve CHECKPOINT        OpenAI-compatible HTTP server
  score PREDICTIONS       judge a file of predictions with a reward
  report RUN              one HTML page about a run
  compare RUN RUN ...     several runs on one HTML page
  dashboard PROJECT       a workspace with our panels at wandb

ramify COMMAND --help shows the arguments of a command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 found problems, 2 wrong use."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_HELP)
        return 0 if arguments else 2
    command = _COMMANDS.get(arguments[0])
    if command is None:
        return _fail(f"unknown command {arguments[0]}{nearest(arguments[0], _COMMANDS)}")
    try:
        return command(arguments[1:])
    except ValueError as error:
        return _fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return 130


def _train(arguments: list[str]) -> int:
    _guard()
    from trainers import launch

    launch.main(None, "__main__", arguments)
    return 0


def _lint(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ramify lint", description="Check recipes.")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE")
    parser.add_argument(
        "--format_only",
        action="store_true",
        help="check the format and the section names, not the values (no torch, milliseconds)",
    )
    given = parser.parse_args(arguments)
    _guard()
    results = [_lint_one(path, given.format_only) for path in given.recipes]
    return 0 if all(results) else 1


def _lint_one(path: str, format_only: bool) -> bool:
    from trainers.recipe import RecipeError, read_recipe

    try:
        raw = read_recipe(path)
        if not format_only:
            from trainers.quiet import quiet_libraries

            quiet_libraries()
            from trainers import build

            build.check(raw)
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    print(f"ok: {path}")
    return True


def _doctor(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="ramify doctor", description="Look at this machine.")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    given = parser.parse_args(arguments)
    from trainers import doctor

    findings = doctor.examine()
    if given.json:
        print(json.dumps([dataclasses.asdict(item) for item in findings], indent=2))
    else:
        print("\n".join(doctor.report(findings)))
    return 0 if doctor.is_healthy(findings) else 1


def _eval(arguments: list[str]) -> int:
    given = _eval_parser().parse_args(arguments)
    _guard()
    from trainers.quiet import quiet_libraries

    quiet_libraries()
    from trainers import evaluation_run

    evaluation_run.main(given)
    return 0


def _eval_parser() -> argparse.ArgumentParser:
    """Arguments that are not given are None: then the recipe of the checkpoint's run decides."""
    parser = argparse.ArgumentParser(
        prog="ramify eval", description="Avg@k, pass@k and maj@k with 95 % intervals."
    )
    parser.add_argument("checkpoint", help="folder with weights and tokenizer, or a hub id")
    parser.add_argument(
        "--data", help="JSON-lines file of prompts instead of the recipe's held-out ones"
    )
    parser.add_argument("--num_prompts", type=int, help="prompts to use")
    parser.add_argument("--k", type=int, help="samples per prompt")
    parser.add_argument("--temperature", type=float, help="temperature of the k samples")
    parser.add_argument("--max_new_tokens", type=int, help="length limit of a response")
    parser.add_argument("--seed", type=int, help="seed of the samples")
    parser.add_argument("--recipe", help="recipe whose data and rewards are used")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def _serve(arguments: list[str]) -> int:
    given = vars(_serve_parser().parse_args(arguments))
    _guard()
    from trainers.quiet import quiet_libraries

    quiet_libraries()
    from inference.server.app import ServeOptions, serve

    serve(ServeOptions(**given))
    return 0


def _serve_parser() -> argparse.ArgumentParser:
    """Flags are the fields of ServeOptions; what is not given keeps the default there."""
    parser = argparse.ArgumentParser(
        prog="ramify serve",
        description="OpenAI-compatible HTTP server.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("checkpoint", help="folder with weights and tokenizer, or a hub id")
    parser.add_argument("--host", help="address to listen on; 0.0.0.0 for all interfaces")
    parser.add_argument("--port", type=int, help="port to listen on; 0 picks a free one")
    parser.add_argument("--dtype", help="auto, float32, bfloat16 or float16")
    parser.add_argument("--device", help="torch device; auto takes the GPU if there is one")
    parser.add_argument("--max_kv_tokens", type=int, help="KV tokens of all running requests")
    parser.add_argument("--model_name", "--api_name", help="name of the model in the API")
    parser.add_argument("--max_queue", type=int, help="prompts that may wait")
    parser.add_argument("--max_new_tokens", type=int, help="tokens that one answer may have")
    parser.add_argument("--shutdown_s", type=int, help="seconds to finish after a stop signal")
    return parser


def _score(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="ramify score", description="Judge a file of predictions with a reward."
    )
    parser.add_argument("predictions", nargs="?", help="JSON lines: id, completion, references")
    parser.add_argument("--reward", required=True, help="math_answer, ..., or my_pkg.my_mod:Class")
    parser.add_argument("--cases", help="case table instead of predictions: report agreement")
    parser.add_argument("--out", help="JSON lines: id, score, correct, status, detail")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the reward, for example value_malformed=-1.0",
    )
    given = parser.parse_args(arguments)
    if (given.predictions is None) == (given.cases is None):
        raise ValueError("name either a file of predictions or --cases with a case table")
    _guard()
    from trainers import score_file

    return score_file.main(given)


def _report(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="ramify report", description="One self-contained HTML page about a run."
    )
    parser.add_argument("run", type=Path, help="output folder of a run, finished or not")
    parser.add_argument("--out", type=Path, help="the page; default: report.html in the run folder")
    given = parser.parse_args(arguments)
    _guard()
    from trainers.report.run_page import write_report

    print(f"report: {write_report(given.run, given.out)}")
    return 0


def _compare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="ramify compare", description="Several runs on one self-contained HTML page."
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="output folders of runs")
    parser.add_argument("--out", type=Path, default="compare.html", help="the page")
    given = parser.parse_args(arguments)
    _guard()
    from trainers.report.compare_page import write_comparison

    print(f"comparison: {write_comparison(given.runs, given.out)}")
    return 0


def _dashboard(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="ramify dashboard", description="Make a workspace with our panels at wandb."
    )
    parser.add_argument("project", help="project at wandb, as in logging.project of the recipe")
    parser.add_argument("--entity", help="user or team; default: that of the logged-in account")
    parser.add_argument("--show", action="store_true", help="print the panels, save nothing")
    given = parser.parse_args(arguments)
    _guard()
    from trainers.report import dashboard

    if given.show:
        print(json.dumps(dashboard.definition(), indent=2))
    else:
        print(f"dashboard: {dashboard.save(given.project, given.entity)}")
    return 0


def _guard() -> None:
    """Run the packages guard; its message is for the user."""
    try:
        siblings.check()
    except ImportError as error:
        raise ValueError(str(error)) from error


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "lint": _lint,
    "doctor": _doctor,
    "eval": _eval,
    "serve": _serve,
    "score": _score,
    "report": _report,
    "compare": _compare,
    "dashboard": _dashboard,
}
