"""The verifier's own nonces: what was issued, and which card was accepted with it."""
