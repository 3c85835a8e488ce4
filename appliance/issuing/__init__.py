"""Use cases of issuing: what a request means, from a valid meter to a token of the module.

Lives here: the order of checks, token identifiers, the conversation with the module.
Does not live here: protobuf, gRPC, and any rule that the module enforces itself (it is asked, not copied).
"""
