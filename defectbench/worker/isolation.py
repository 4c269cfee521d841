"""What a worker process gives up before anything of a model is imported: the network, and folders that would hide its own modules."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41


def see_paths(paths: list[str]) -> None:
    """Lets modules be imported from folders: after the standard library, which they cannot hide, and before what is installed."""
    at = next((i for i, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))), len(sys.path))
    sys.path[at:at] = paths


def cut_network() -> bool:
    """Moves this process, which must have one thread only, to a network namespace of its own: nothing but the loopback is there.

    Linux only, where the system allows such namespaces to its users. No rights are gained, and the user stays who it is.

    Returns:
        Whether the network is cut.
    """
    if not sys.platform.startswith("linux"):
        return False
    user, group = os.getuid(), os.getgid()
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is None:
        return False
    if unshare(_CLONE_NEWNET) != 0:  # allowed to root; it would lose the right to others' files in a user namespace
        if unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            return False
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    with contextlib.suppress(OSError):
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loopback:
            fcntl.ioctl(loopback, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP_RUNNING))
    return True
