"""Files that one recipient can read: age (age-encryption.org/v1), for age keys and SSH keys."""

from __future__ import annotations

from typing import TypeAlias

import pyrage

Recipient: TypeAlias = "pyrage.x25519.Recipient | pyrage.ssh.Recipient"


def parse_recipient(text: str) -> Recipient:
    """Read ``age1…`` or an SSH public key; raises ValueError."""
    try:
        if text.startswith("age1"):
            return pyrage.x25519.Recipient.from_str(text)
        return pyrage.ssh.Recipient.from_str(" ".join(text.split()[:2]))
    except pyrage.RecipientError:
        raise ValueError("this is no recipient of age: age1…, ssh-ed25519 or ssh-rsa") from None


def seal(octets: bytes, recipient: Recipient) -> bytes:
    """Return the octets encrypted to one recipient."""
    return bytes(pyrage.encrypt(octets, [recipient]))
