"""HTTP serving over the engine."""
