"""The appliance: the gRPC service that vending platforms call.

Lives here: configuration, server, interceptors, services (protobuf to domain and back), issuing, and the client.
Does not live here: any key, PIN, cipher or PKCS#11 call; the module process has them.
"""

__version__ = "0.1.0"
