"""Who may mint what: the signed policy, judged before anything is issued.

Lives here: the policy file, its signatures, what it allows whom, and which limits a request counts against.
Does not live here: gRPC, protobuf, SQL, and the counters themselves, which stand in the ledger.
"""
