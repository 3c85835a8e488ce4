"""What the module's log shows to others: proofs, receipts, where a token came from, and whether the ledger agrees."""
