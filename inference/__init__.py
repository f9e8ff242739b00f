"""Tokens in, tokens out: the engine, its KV store, sampling and the server."""

RAMIFY_PACKAGE = "inference"
