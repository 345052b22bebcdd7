"""The measured run."""
