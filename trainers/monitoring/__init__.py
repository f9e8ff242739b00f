"""What a person sees of a run: terminal, metrics file, rollout samples, learning curve."""
