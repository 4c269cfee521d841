"""Signatures of entries by Sigstore: optional, a bundle beside ``entry.json`` (extra ``sign``).

A signature says who stands behind an entry, an e-mail address or a workflow of a repository, and that ``entry.json`` is what they
signed. Whether its numbers are right is what verification says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from defectbench.base.errors import DefectbenchError
from defectbench.base.files import contained, read_bytes, write_text
from defectbench.base.text import one_line
from defectbench.entries.folder import BUNDLE_FILE, MAX_ENTRY, entry_folder, read_entry

MAX_BUNDLE = 1_000_000

_ISSUER = "1.3.6.1.4.1.57264.1.1"
"""Extension of Sigstore's certificates: who has seen to it that the signer is who they say (fulcio, docs/oid-info.md)."""


@dataclass(frozen=True)
class Signature:
    """Who signed.

    Attributes:
        signer: an e-mail address, or the address of a workflow.
        issuer: who vouches for that, e.g. ``https://github.com/login/oauth``.
    """

    signer: str
    issuer: str

    def __str__(self) -> str:
        return one_line(f"{self.signer} ({self.issuer})", 300)


class BadSignature(Exception):  # noqa: N818 - a finding
    """A signature that does not hold; says why in one line."""


def sign(entry: str | Path) -> Path:
    """Signs ``entry.json`` with Sigstore and writes the bundle beside it; returns its path.

    In a workflow with the permission ``id-token: write`` the workflow signs; elsewhere a browser asks who you are. Your address becomes
    part of a public log.

    Raises:
        DefectbenchError: there is no entry, the package ``sigstore`` is missing, or signing failed (code ``not-signed``).
    """
    folder = entry_folder(Path(entry))
    read_entry(folder)
    content = read_bytes(contained(folder, "entry.json"), MAX_ENTRY)
    path = contained(folder, BUNDLE_FILE)
    write_text(path, _sign(content) + "\n")
    return path


def signature_of(folder: Path) -> Signature | None:
    """Who signed an entry; None if nobody did.

    Raises:
        BadSignature: there is a signature that does not hold.
        DefectbenchError: there is one, and the package ``sigstore`` is missing (code ``missing-package``).
    """
    path = contained(folder, BUNDLE_FILE)
    if not path.is_file():
        return None
    try:
        bundle = read_bytes(path, MAX_BUNDLE).decode("utf-8")
        content = read_bytes(contained(folder, "entry.json"), MAX_ENTRY)
    except (OSError, ValueError) as error:
        raise BadSignature(f"cannot be read ({one_line(error, 100)})") from error
    return _check(content, bundle)


def _missing() -> DefectbenchError:
    return DefectbenchError("signatures need the package sigstore; run: pip install 'defectbench[sign]'", code="missing-package")


def _sign(content: bytes) -> str:
    """The bundle of a content, as JSON."""
    try:
        from sigstore.errors import Error
        from sigstore.models import ClientTrustConfig
        from sigstore.oidc import IdentityError, IdentityToken, Issuer, detect_credential
        from sigstore.sign import SigningContext
    except ImportError as error:
        raise _missing() from error
    try:
        trust = ClientTrustConfig.production()
        found = detect_credential()
        token = IdentityToken(found) if found else Issuer(trust.signing_config.get_oidc_url()).identity_token()
        with SigningContext.from_trust_config(trust).signer(token) as signer:
            return str(signer.sign_artifact(content).to_json())
    except (Error, IdentityError, OSError) as error:
        raise DefectbenchError(
            f"cannot sign ({one_line(error, 200)}); Sigstore needs the network and a login", code="not-signed"
        ) from error


def _check(content: bytes, bundle: str) -> Signature:
    """Who signed a content, by the roots of trust that come with the package; no network."""
    try:
        from sigstore.errors import Error
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier
        from sigstore.verify.policy import UnsafeNoOp
    except ImportError as error:
        raise _missing() from error
    try:
        parsed = Bundle.from_json(bundle)
        # whoever signed is shown, not demanded
        Verifier.production(offline=True).verify_artifact(content, parsed, UnsafeNoOp())
    except (Error, InvalidBundle, ValueError) as error:
        raise BadSignature(f"does not hold: {one_line(error, 200)}") from error
    return _named(parsed.signing_certificate)


def _named(certificate: object) -> Signature:
    from cryptography.x509 import Certificate, ObjectIdentifier, RFC822Name, SubjectAlternativeName, UniformResourceIdentifier

    assert isinstance(certificate, Certificate)
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    signers = [*names.get_values_for_type(RFC822Name), *names.get_values_for_type(UniformResourceIdentifier)]
    issuers = [e.value.value for e in certificate.extensions if e.oid == ObjectIdentifier(_ISSUER)]
    return Signature(signers[0] if signers else "unknown", issuers[0].decode("utf-8", "replace") if issuers else "unknown")
