"""The ledger: every request with its answer, every token, the last identifier of every meter, the clock's mark.

Lives here: what is durable and unique, and the key that the stored answers are encrypted with.
Does not live here: what a request means. Nothing else in the appliance holds state that outlives it.
"""
