"""What goes between a module and a key management centre: requests, key-load files, key blocks.

Lives here: the formats of Keywatt's own, and where another format would take their place (``docs/key-files.md``).
Does not live here: any key in clear but in ``centre``, which plays a key management centre for tests.
"""
