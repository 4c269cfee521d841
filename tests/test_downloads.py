"""Mirrors: folders and addresses, and what is said of those that are neither."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from refusals import raises_code

from defectbench.base.downloads import RemoteFile, fetch

REMOTE = RemoteFile("https://example.org/a", hashlib.sha256(b"content").hexdigest(), "sub/a", "dataset")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFECTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DEFECTBENCH_MIRROR", raising=False)


@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_mirror_may_be_a_file_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    (tmp_path / "my mirror" / "sub").mkdir(parents=True)
    (tmp_path / "my mirror" / "sub" / "a").write_bytes(b"content")
    monkeypatch.setenv("DEFECTBENCH_MIRROR", f"file://{host}{tmp_path}/my%20mirror/")
    assert fetch(REMOTE).read_bytes() == b"content"
    (tmp_path / "my mirror" / "sub" / "a").unlink()
    fetch(REMOTE).unlink()
    with raises_code("not-in-mirror", "DEFECTBENCH_MIRROR"):
        fetch(REMOTE)


@pytest.mark.parametrize("given", ["foo://x", "http://[bad", "http://", "http://host:port/", "file://elsewhere/x", "://"])
def test_a_mirror_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr("pooch.Pooch.fetch", lambda *_, **__: pytest.fail("nothing can be fetched from there"))
    monkeypatch.setenv("DEFECTBENCH_MIRROR", given)
    with raises_code("bad-mirror", "DEFECTBENCH_MIRROR", given):
        fetch(REMOTE)


def test_only_a_wrong_hash_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    def wrong(*_: object, **__: object) -> None:
        (tmp_path / "got").write_bytes(b"other")
        pooch.hashes.hash_matches(tmp_path / "got", f"sha256:{REMOTE.sha256}", strict=True, source="a")

    monkeypatch.setattr("pooch.Pooch.fetch", wrong)
    with raises_code("hash-mismatch", REMOTE.sha256[:12]):
        fetch(REMOTE)

    def bad_address(*_: object, **__: object) -> None:
        raise ValueError("no such protocol")

    monkeypatch.setattr("pooch.Pooch.fetch", bad_address)
    with raises_code("download-failed", REMOTE.url, "no such protocol"):
        fetch(REMOTE)
