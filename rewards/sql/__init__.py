"""Executing a model's SQL safely and comparing what it returns with the reference."""
