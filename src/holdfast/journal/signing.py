"""Ed25519 signatures, with the extra `sign`: `cryptography` is imported when a key is used, not before.

Keys are PEM: PKCS8 without a password for the private one, SubjectPublicKeyInfo for the public one.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def new_key() -> tuple[bytes, bytes]:
    """A fresh Ed25519 key pair as (private, public), in PEM."""
    _need_cryptography()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    return (
        private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
    )


def sign(text: bytes, private_key: bytes) -> bytes:
    """The signature of a text. Raises `ValueError` for a key of another kind."""
    return _private(private_key).sign(text)


def key_id(private_key: bytes) -> str:
    """The name of a key pair: the beginning of the SHA-256 of its raw public key, in hex."""
    return hashlib.sha256(_private(private_key).public_key().public_bytes_raw()).hexdigest()[:16]


def signed_by(text: bytes, signature: bytes, public_keys: Sequence[bytes]) -> bool:
    """Whether one of these keys made the signature. Raises `ValueError` for a key of another kind."""
    return any(_verifies(_public(key), signature, text) for key in public_keys)


def _verifies(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _private(pem: bytes) -> Ed25519PrivateKey:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"checkpoints are signed with an Ed25519 key; this is {type(key).__name__}")
    return key


@functools.lru_cache(maxsize=8)
def _public(pem: bytes) -> Ed25519PublicKey:
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"checkpoints are signed with an Ed25519 key; this is {type(key).__name__}")
    return key


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise ImportError(
            "signing checkpoints, and checking signatures, needs the package cryptography: pip install 'holdfast[sign]'"
        ) from error
