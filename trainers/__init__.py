"""Losses, advantages, the adapter on TRL, recipes and the command line."""

RAMIFY_PACKAGE = "trainers"
