"""Certificates for attestation keys."""
