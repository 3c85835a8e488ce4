"""The Standard Transfer Specification (IEC 62055-41), restated as pure Python values and codecs.

Lives here: identifiers, time base, amounts, CRC, token classes, token numbers, key-change sets,
derivation blocks, the reference ciphers and a virtual meter; standard library only, no input or output.
Does not live here: any key store, any network or file access, any issuing of real tokens.
"""
