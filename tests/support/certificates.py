"""Certificates that live as long as a test."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate of 127.0.0.1 that is its own authority; a client trusts its chain."""

    chain: Path
    key: Path
    serial: int


def certificate(folder: Path) -> Certificate:
    """Write a new certificate and its key over those that the folder has, as an operator does."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge of a test")])
    now = datetime.datetime.now(datetime.UTC)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(addresses, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = _replaced(folder / "edge.pem", made.public_bytes(serialization.Encoding.PEM))
    return Certificate(chain, _replaced(folder / "edge.key", private), made.serial_number)


def _replaced(file: Path, content: bytes) -> Path:
    new = file.with_suffix(".new")
    new.write_bytes(content)
    return new.replace(file)
