"""Appraisal of parsed evidence and claims."""
