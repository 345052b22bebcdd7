"""Prover side of each hardware interface."""
