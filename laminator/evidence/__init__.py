"""Verifier side of each kind of evidence."""
