"""A built site over HTTP, for this machine only."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from defectbench.base.errors import DefectbenchError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name of the base class)
        """No line per request."""


def server(site: Path, port: int = 8000) -> ThreadingHTTPServer:
    """A server of a built site at ``127.0.0.1``; the caller runs and closes it.

    Args:
        site: folder that :func:`~defectbench.leaderboard.html.build_site` wrote.
        port: 0 takes a free one.

    Raises:
        DefectbenchError: the folder contains no site (code ``no-site``), or the port cannot be used (``bad-port``).
    """
    if not (site / "index.html").is_file():
        raise DefectbenchError(f"no site at {site}; build one with 'defectbench leaderboard build FOLDER --output {site}'", code="no-site")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(site)))
    except OSError as error:
        raise DefectbenchError(f"cannot use port {port} ({error.strerror}); choose another --port", code="bad-port") from error
