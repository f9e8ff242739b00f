"""A training run from start to end: check, load, evaluate, train, evaluate, save, draw.

Everything that can be refused is refused before a weight is read.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

from accelerate.utils import gather_object
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from trainers import build, checkpointing
from trainers.batch_plan import BatchPlan
from trainers.data import PromptData
from trainers.evaluate import Evaluation, PromptOutcome, evaluate_prompts, summarise
from trainers.launch import LaunchOptions
from trainers.launch_checks import check_world_size
from trainers.memory_estimate import MemoryEstimate
from trainers.monitoring.curve import draw_learning_curve
from trainers.monitoring.graceful_stop import GracefulStop
from trainers.monitoring.heldout_evaluation import HeldOutEvaluation
from trainers.monitoring.metrics_file import MetricsFile
from trainers.monitoring.model_card import write_model_card
from trainers.monitoring.rollout_samples import FOLDER, RolloutSamples
from trainers.monitoring.terminal import ProgressReport, Terminal
from trainers.monitoring.trackers import prepare_trackers
from trainers.policy_config import PolicyConfig
from trainers.policy_trainer import PolicyTrainer
from trainers.recipe import RecipeError, write_recipe
from trainers.recipe_format import render
from trainers.reward_function import RewardFunction, judge_with
from trainers.rollout_phase import prompt_tasks

logger = logging.getLogger(__name__)

FINAL = "final"
EVALUATION_FILE = "evaluation.json"
RECIPE_FILE = "recipe.yaml"


class TrainingRun:
    """One execution of a training recipe."""

    def __init__(self, recipe: build.TrainRecipe, options: LaunchOptions) -> None:
        self.recipe = recipe
        self.options = options
        self.run_dir = Path(recipe.logging.output_dir).expanduser()
        self.terminal = Terminal(is_main=os.environ.get("RANK", "0") == "0")
        self._evaluations: dict[str, Evaluation] = {}

    def execute(self) -> None:
        """Run it; with --dry_run only show what would happen."""
        model_config = build.check_run(self.recipe)
        rewards = [RewardFunction(reward) for reward in build.build_rewards(self.recipe)]
        tokenizer = build.load_tokenizer(self.recipe.model)
        data = build.build_data(self.recipe, tokenizer)
        build.check_lengths(self.recipe, model_config, data)
        plan = build.build_plan(self.recipe, len(data.train))
        if self.options.dry_run:
            memory = build.build_memory_estimate(self.recipe, plan, model_config)
            self._describe(data, plan, memory)
            return
        checkpoint = self._resume_point()
        if checkpoint is not None and checkpointing.checkpoint_step(checkpoint) >= plan.num_updates:
            self.terminal.line(
                f"{self.run_dir} is complete: {checkpoint.name} of {plan.num_updates} updates; "
                "raise trainer.max_steps to train further"
            )
            return
        tracker = prepare_trackers(self.recipe.logging, self.run_dir)
        args = build.build_policy_config(self.recipe, self.run_dir)
        check_world_size(args.world_size, os.environ)
        self._announce(data, plan, args)
        if tracker is not None:
            self.terminal.line(tracker)
        trainer = PolicyTrainer(
            model=build.load_model(self.recipe.model),
            args=args,
            rewards=rewards,
            train_dataset=data.train,
            processing_class=tokenizer,
            rollout=self.recipe.rollout,
            inference=self.recipe.inference,
            peft_config=self.recipe.model.lora and self.recipe.model.lora.to_peft(),
        )
        try:
            self._train(trainer, data, rewards[0], checkpoint)
        finally:
            trainer.end()

    # ---- before ----------------------------------------------------------------------------

    def _resume_point(self) -> Path | None:
        """The checkpoint to go on from; a folder that already holds a run is never overwritten.

        Raises:
            RecipeError: the folder holds a run and --resume was not given, or nothing to resume.
        """
        existing = checkpointing.complete_checkpoints(self.run_dir)
        if self.options.resume is None:
            if existing or (self.run_dir / FINAL).exists():
                newest = existing[-1].name if existing else FINAL
                raise RecipeError(
                    f"{self.run_dir} already holds a run (up to {newest}); go on with --resume, or "
                    f"write elsewhere with --output_dir {self.run_dir}-2"
                )
            return None
        try:
            checkpoint = checkpointing.find_checkpoint(self.run_dir, self.options.resume)
            if checkpoint is not None:
                checkpointing.read_marker(checkpoint)
        except ValueError as error:
            raise RecipeError(str(error)) from error
        if checkpoint is None:
            self.terminal.line(
                f"--resume: {self.run_dir} has no complete checkpoint, starting anew"
            )
        return checkpoint

    def _describe(self, data: PromptData, plan: BatchPlan, memory: MemoryEstimate) -> None:
        self.terminal.line(render(self.resolved(), self.recipe.raw.about))
        self.terminal.block("batch arithmetic", plan.describe().splitlines())
        self.terminal.block("data", data.describe().splitlines())
        self.terminal.block("memory estimate", memory.lines())

    def _announce(self, data: PromptData, plan: BatchPlan, args: PolicyConfig) -> None:
        self.terminal.line(f"ramify: {self.recipe.raw.about}")
        self.terminal.block("data", data.describe().splitlines())
        self.terminal.block("batch arithmetic", plan.describe().splitlines())
        self.terminal.line(
            f"device {args.device}, {args.world_size} process(es); output in {self.run_dir}, "
            f"rollout samples in {self.run_dir / FOLDER}"
        )

    def resolved(self) -> dict[str, object]:
        """The whole recipe with every default of our own sections filled in."""
        return {
            "kind": self.recipe.raw.kind,
            "model": self.recipe.model,
            "data": self.recipe.data,
            "rollout": self.recipe.rollout,
            "rewards": self.recipe.rewards,
            "inference": self.recipe.inference,
            "trainer": self.recipe.trainer,
            "evaluation": self.recipe.evaluation,
            "logging": self.recipe.logging,
        }

    # ---- training --------------------------------------------------------------------------

    def _train(
        self,
        trainer: PolicyTrainer,
        data: PromptData,
        reward: RewardFunction,
        checkpoint: Path | None,
    ) -> None:
        stop = GracefulStop(self.terminal, trainer.accelerator)
        evaluation = HeldOut(self.recipe, trainer, data, reward)
        trainer.remove_callback(PrinterCallback)
        for callback in self._callbacks(trainer, stop, evaluation):
            trainer.add_callback(callback)
        if trainer.accelerator.is_main_process:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            write_recipe(self.resolved(), self.recipe.raw.about, self.run_dir / RECIPE_FILE)
        if checkpoint is not None:
            self.terminal.line(f"resuming from {checkpoint}")
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if stop.was_stopped:
            self._say_how_to_resume(trainer)
            return
        self._evaluate("after", evaluation)
        trainer.save_model(str(self.run_dir / FINAL))
        self._write_card(trainer)
        self._finish(trainer)

    def _callbacks(
        self, trainer: PolicyTrainer, stop: GracefulStop, evaluation: HeldOut
    ) -> list[TrainerCallback]:
        callbacks: list[TrainerCallback] = [
            MetricsFile(self.run_dir),
            HeldOutEvaluation(
                before=lambda: self._evaluate("before", evaluation),
                during=lambda: evaluation.log(self.terminal),
                every=self.recipe.evaluation.every_steps if evaluation.is_on else 0,
            ),
            ProgressReport(self.terminal),
            stop,
        ]
        if self.recipe.logging.rollout_samples_every:
            samples = RolloutSamples(
                self.run_dir,
                newest=lambda: trainer.newest_rollout,
                decode=trainer.decode,
                every=self.recipe.logging.rollout_samples_every,
            )
            callbacks.append(samples)
        return callbacks

    def _evaluate(self, moment: str, evaluation: HeldOut) -> None:
        if not evaluation.is_on:
            return
        result = evaluation.log()
        self._evaluations[moment] = result
        title = f"held-out {moment} training ({result.num_prompts} prompts, 95 % interval)"
        self.terminal.block(title, result.lines())
        if evaluation.trainer.accelerator.is_main_process:
            path = self.run_dir / EVALUATION_FILE
            known = json.loads(path.read_text()) if path.is_file() else {}
            known[moment] = result.as_dict()
            checkpointing.write_atomically(path, json.dumps(known, indent=2) + "\n")

    def _say_how_to_resume(self, trainer: PolicyTrainer) -> None:
        self._draw(trainer)
        self.terminal.line(
            f"stopped and saved {self.run_dir}/checkpoint-{trainer.state.global_step}; go on with: "
            f"ramify train {self.recipe.raw.path} --output_dir {self.run_dir} --resume"
        )

    def _write_card(self, trainer: PolicyTrainer) -> None:
        if not trainer.accelerator.is_main_process:
            return
        names = ("clip", "advantage", "aggregation", "epsilon", "epsilon_high", "learning_rate")
        write_model_card(
            self.run_dir / FINAL,
            about=self.recipe.raw.about,
            base_model=self.recipe.model.path,
            algorithm={name: getattr(trainer.args, name) for name in names},
            steps=trainer.state.global_step,
            evaluations=self._evaluations,
        )

    def _finish(self, trainer: PolicyTrainer) -> None:
        picture = self._draw(trainer)
        self.terminal.line(f"policy saved in {self.run_dir / FINAL}; learning curve {picture}")
        self.terminal.line(f"evaluate: ramify eval {self.run_dir / FINAL}")
        self.terminal.line(f"serve:    ramify serve {self.run_dir / FINAL}")

    def _draw(self, trainer: PolicyTrainer) -> Path | None:
        if not trainer.accelerator.is_main_process:
            return None
        return draw_learning_curve(self.run_dir, self.recipe.raw.about)


class HeldOut:
    """Evaluates the live policy on held-out prompts; ranks share the prompts."""

    def __init__(
        self,
        recipe: build.TrainRecipe,
        trainer: PolicyTrainer,
        data: PromptData,
        reward: RewardFunction,
    ) -> None:
        self.config = recipe.evaluation
        self.rollout = recipe.rollout
        self.trainer = trainer
        rows = data.heldout
        count = 0 if rows is None else min(len(rows), self.config.num_prompts)
        self.rows = [] if rows is None else [rows[i] for i in range(count)]
        self.judge = judge_with(reward.reward, trainer.decode)

    @property
    def is_on(self) -> bool:
        """False without held-out prompts or with evaluation.num_prompts=0."""
        return bool(self.rows)

    def log(self, terminal: Terminal | None = None) -> Evaluation:
        """Evaluate and log; all ranks enter together and get the same result."""
        result = summarise(self._outcomes())
        self.trainer.log_evaluation(result.metrics())
        if terminal is not None:
            step = self.trainer.state.global_step
            terminal.line(
                f"held-out at step {step}: Avg@1 {result.avg_at_1.value:.3f}, "
                f"Avg@{result.k} {result.avg_at_k.value:.3f}"
            )
        return result

    def _outcomes(self) -> list[PromptOutcome]:
        accelerator = self.trainer.accelerator
        mine = self.rows[accelerator.process_index :: accelerator.num_processes]
        with self.trainer.rollout_engine() as engine:
            outcomes = evaluate_prompts(
                engine,
                prompt_tasks(mine, self.trainer.tokenize_prompts) if mine else [],
                replace(self.rollout, temperature=self.config.temperature),
                k=self.config.k,
                judge=self.judge,
                decode=self.trainer.decode,
                eos_token_ids=self.trainer.eos_token_ids,
                seed=self.config.seed,
                encode=self.trainer.encode,
            )
        return gather_object(outcomes)
