"""Takes out of a text what says whose machine it comes from: home folders, host and user names, keys.

Failures, and a model's arguments, are published with an entry.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from pathlib import Path
from typing import Any

HIDDEN = "<hidden>"

_SECRET_NAME = re.compile(
    r"token(?!iz)|secret|passw|passphrase|credential|(api|access|private)[_-]?key|(^|[_-])(key|auth|authorization|cookie)$", re.IGNORECASE
)
_SECRETS = (
    re.compile(
        r"\b(?:sk|pk|rk)-[\w-]{16,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bhf_\w{20,}|\bglpat-[\w-]{16,}|\bxox[abprs]-[\w-]{10,}"
    ),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*|-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.DOTALL),
    re.compile(r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"),
    re.compile(r"(?i)(?<=\bbearer )\S{6,}"),
)
_NAMED_SECRET = re.compile(
    r"(?i)([\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key|access[_-]?key|credential)s?[\"']?\s*[:=]\s*[\"'\[(]*)([^\s\"',;&)}\]]{6,})"
)
_ANY_HOME = re.compile(r"(?:/home/|/Users/|\b[A-Za-z]:\\+Users\\+)[^\s/\\:\"',;)]+")


def is_secret_name(name: str) -> bool:
    """Whether a variable or an argument of this name is likely to hold a key or a password.

    >>> is_secret_name("HF_TOKEN"), is_secret_name("api_key"), is_secret_name("charge_key_count")
    (True, True, False)
    """
    return _SECRET_NAME.search(name) is not None


def redact(text: str) -> str:
    """A text without home folders (``~`` instead), names of this host and user, and keys.

    >>> redact("no file /home/ada/model.pt; token=abcdef123456")
    'no file ~/model.pt; token=<hidden>'
    """
    return _without_places(_without_keys(text))


def _without_keys(text: str) -> str:
    for name, value in os.environ.items():
        if is_secret_name(name) and len(value) >= 8:
            text = text.replace(value, HIDDEN)
    for pattern in _SECRETS:
        text = pattern.sub(HIDDEN, text)
    return _NAMED_SECRET.sub(rf"\g<1>{HIDDEN}", text)


def _without_places(text: str) -> str:
    home = Path.home()
    for place in sorted({str(home), str(home.resolve())}, key=len, reverse=True):
        if len(place) > 1:
            text = re.sub(rf"{re.escape(place)}(?![\w.-])", "~", text)
    text = _ANY_HOME.sub("~", text)
    host = socket.gethostname()
    for name in (host, host.partition(".")[0]):
        if len(name) >= 4 and name != "localhost":
            text = re.sub(rf"(?i)(?<![\w-]){re.escape(name)}(?![\w-])", "<host>", text)
        elif name:  # may also be a word, or an element
            text = re.sub(rf"((?:@|://|\b(?:on|host|hostname|node)[ :=]\s*)[\"']?){re.escape(name)}(?![\w-])", r"\1<host>", text)
    user = _user()
    if len(user) >= 3 and user != "root":
        text = re.sub(rf"(?<![\w-]){re.escape(user)}(?![\w-])", "<user>", text)
    return text


def redact_values(value: Any) -> Any:
    """JSON values with each text redacted, keys of mappings too, and what a key names as secret hidden, whatever it is.

    >>> redact_values({"api_keys": ["x"], "password": None, "folders": ["/home/ada/a", 3]})
    {'api_keys': '<hidden>', 'password': None, 'folders': ['~/a', 3]}
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {_redact_key(str(key)): _redact_named(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item) for item in value]
    return value


def _redact_key(key: str) -> str:
    # a host may be called "energy", as the field of a result is
    return _without_keys(key) if key.isidentifier() else redact(key)


def _redact_named(key: str, value: Any) -> Any:
    return HIDDEN if is_secret_name(key) and value is not None and not isinstance(value, bool) else redact_values(value)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        return ""
