"""The key loader: what officers do to tokens, keys and tables, in ceremonies that a plan describes and a record proves.

Lives here: plans, their types (``ceremonies``), approvals, the table and its papers, the token store on the disk.
Does not live here: any PKCS#11 call (``hsm`` makes them), any whole key, and anything that issues tokens.
"""
