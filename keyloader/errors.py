"""Errors of the key loader. None shows a key octet or a table entry."""

from __future__ import annotations


class KeyLoaderError(Exception):
    """Base of every error raised by :mod:`keyloader`."""

    reason = "KEY_LOADER_ERROR"
    retryable = False
    hint = "See the message."


class StoreBusy(KeyLoaderError):
    """Another ceremony works on the same token store."""

    reason = "TOKEN_STORE_BUSY"
    retryable = True
    hint = "Wait until it has ended, then begin again."


class KeyFileInvalid(KeyLoaderError):
    """A development key file that is no TOML, or has an unknown or wrong field."""

    reason = "KEY_FILE_INVALID"
    hint = "See the message for the entry and the field; softhsm-config/development-keys.toml is an example."


class TablesFileInvalid(KeyLoaderError):
    """A file of EA07 tables that is no JSON, or whose tables are no permutations."""

    reason = "STA_TABLES_INVALID"
    hint = "Both substitutions must permute 0..15, the permutation 0..63; ask the licensor for a good file."


class SignatureUnreadable(KeyLoaderError):
    """An officer's key or signature that is not in OpenSSH's format."""

    reason = "SIGNATURE_UNREADABLE"
    hint = "Make keys with ssh-keygen -t ed25519 (or ed25519-sk), signatures with ssh-keygen -Y sign."
