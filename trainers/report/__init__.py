"""Seeing a run: its page, several runs on one page, and a dashboard at wandb."""
