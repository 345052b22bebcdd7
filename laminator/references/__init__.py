"""Where reference values come from: one module for each source of files and their digests."""
