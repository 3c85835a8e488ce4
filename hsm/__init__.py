"""The security boundary: the module process, its client, and the functionality module in C (``hsm/module``).

Lives here: sessions with the module, the worker and its supervisor, typed messages, the asyncio client.
Does not live here: anything of the network, the ledger or policy; and no STS code that could make a token.
"""
