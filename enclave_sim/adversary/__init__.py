"""The adversary: forged worlds, for tests of what a lying prover can try.

`forged_world` is a valid card with everything behind it, and the verifier who judges it.
`deviations` change one part of it and sign again whatever a prover with a TPM could sign again.
`forged_pki` and `forged_manufacturer` are authorities made to order, `forged_der` changes what they
signed below what a builder would write. `lying_attester` does runs by hand on a TPM that is there.

Nothing here is ever a part of Laminator, and no part of it imports this.
"""
