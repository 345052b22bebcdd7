"""Why an authority refuses to certify an attestation key."""

from laminator.errors import LaminatorError


class EnrolmentRefusedError(LaminatorError):
    """A well-formed request or response that does not earn a certificate; `code` says which rule.

    ``ak.*`` for the attestation key, ``ek.*`` for the endorsement key and its certificate,
    ``counter.*`` for the run counter, ``response.*`` for the answer to a challenge.
    """
