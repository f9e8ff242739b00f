"""Environments that a model acts in while it writes, one file each."""
