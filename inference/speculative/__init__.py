"""Speculative decoding: draft trees, drafters, controllers and accept rules, independent of the engine."""
