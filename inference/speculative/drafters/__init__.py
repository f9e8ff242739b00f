"""Drafters, one file each: they propose tokens and say from which law each one was drawn."""
