"""Who may connect: our certificate and theirs, read anew while calls go on, and what their authorities have revoked.

Lives here: files with certificates and revocation lists, and the judgement of a client's certificate.
Does not live here: what a client may do once it is known, which the policy says.
"""
