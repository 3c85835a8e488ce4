"""The Merkle log (RFC 6962) in C2SP formats: leaves, tiles, checkpoints, receipts, and a verifier without a module.

Nothing in this package imports the rest of Keywatt, and nothing but :mod:`hsm.log.notes` needs more than the standard
library: an auditor can read all of it in an afternoon.
"""
