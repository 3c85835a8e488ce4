"""The key loader: what officers do to keys and tables.

Lives here: key files, table files, and the command line for both.
Does not live here: any PKCS#11 call (``hsm`` makes them) and anything that issues tokens.
"""
