"""The client: a small class over the generated stubs, and the ``keywatt`` command line. Mutual TLS, always."""
