"""Digests of files, folders, code and environments."""
