"""gRPC services: protobuf to orders, deliveries to protobuf.

Lives here: conversion, one file a service. Does not live here: any decision about issuing.
"""
