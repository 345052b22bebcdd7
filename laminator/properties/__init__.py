"""Measurers: the code that computes properties."""
