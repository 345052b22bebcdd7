"""The machine that is not here: a simulated platform around a software TPM."""
