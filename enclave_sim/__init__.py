"""The machine that a laptop does not have: a software TPM with its manufacturer and its owner.

Nothing here proves anything about hardware: what a simulated machine signs says so.
"""
