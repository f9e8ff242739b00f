"""Keeps what libraries print for their own developers off the user's terminal.

Errors and warnings that a user can act on are untouched. Call it before torch-heavy imports.
"""

from __future__ import annotations

import os
import warnings

from trainers.launch_checks import num_accelerators

_LIBRARIES = r"(torch|transformers|trl|accelerate|deepspeed|peft|datasets)(\.|$)"


def quiet_libraries() -> None:
    """Silence deprecation notes, start-up notes and shard progress bars; users' variables win."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=_LIBRARIES)
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=_LIBRARIES)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("WANDB_SILENT", "true")
    if num_accelerators() == 0:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found none
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
