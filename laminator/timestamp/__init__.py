"""The provider's side of trusted time: tokens (RFC 3161) over finished cards and over plans."""
