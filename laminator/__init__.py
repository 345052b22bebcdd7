"""Verifiable machine-learning property cards."""
