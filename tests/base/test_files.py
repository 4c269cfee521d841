"""Files are whole, never written through links, and stay inside their folder."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
from pathlib import Path

import pytest
from refusals import raises_code

from defectbench.base.files import (
    contained,
    copy_file,
    making_folder,
    open_file,
    plain_file,
    read_bytes,
    read_gzip,
    read_maybe_gzip,
    replacing,
    sha256_of,
    write_bytes,
    write_text,
)


def test_a_written_file_is_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "Å\n")
    assert path.read_bytes() == "Å\n".encode()
    write_bytes(path, b"again")
    assert path.read_bytes() == b"again"
    assert list(path.parent.iterdir()) == [path]
    assert sha256_of(path) == hashlib.sha256(b"again").hexdigest()


def test_what_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    def break_off(path: Path) -> None:
        with replacing(path) as handle:
            handle.write(b"half")
            raise KeyboardInterrupt

    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt):
        break_off(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / "a.txt").symlink_to(victim)
    write_text(folder / "a.txt", "new")
    assert victim.read_text() == "mine"
    assert (folder / "a.txt").read_text() == "new"
    assert not (folder / "a.txt").is_symlink()


def test_names_of_temporary_files_cannot_be_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda _n: "guessed")
    (tmp_path / ".guessed.part").symlink_to(victim)
    with raises_code("not-writable"):
        write_text(tmp_path / "a.txt", "new")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_folders_are_made_whole_and_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with making_folder(tmp_path / "new") as folder:
            write_text(folder / "a.txt", "x")
            assert not (tmp_path / "new").exists()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o777 & ~umask
    with making_folder(tmp_path / "new") as late:  # another process was faster
        write_text(late / "a.txt", "y")
    assert (tmp_path / "new" / "a.txt").read_text() == "x"
    with pytest.raises(KeyboardInterrupt), making_folder(tmp_path / "other"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises_code("not-writable", tmp_path / "file" / "a.txt"):
        write_text(tmp_path / "file" / "a.txt", "x")


@pytest.mark.parametrize("name", ["a", "frames/PBE/a.extxyz", "new/deep/er", "Bond_Distortion_-40.0%", "..a"])
def test_plain_names_lie_inside(tmp_path: Path, name: str) -> None:
    assert contained(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/../../b", "/etc/passwd", "a//b", "./a", "a\\b", "C:/a", "a\nb", "a\0b", "x" * 300]
)
def test_other_names_do_not(tmp_path: Path, name: str) -> None:
    with raises_code("bad-path"):
        contained(tmp_path, name)


def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "inner")
    (root / "circle").symlink_to(root / "circle")
    assert contained(root, "in/a") == root / "in" / "a"
    (root / "dead").symlink_to(tmp_path / "nowhere")
    for name in ("out/a", "out", "dead"):
        with raises_code("link-outside", name):
            contained(root, name)


def test_a_root_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert contained(tmp_path / "link", "a/b") == tmp_path / "link" / "a" / "b"


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert read_bytes(tmp_path / "a", 100) == b"x" * 100
    with pytest.raises(ValueError, match="99"):
        read_bytes(tmp_path / "a", 99)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\0" * 5_000_000))
    assert len(read_gzip(tmp_path / "a.gz", 5_000_000)) == 5_000_000
    with pytest.raises(ValueError, match="4,999,999"):
        read_gzip(tmp_path / "a.gz", 4_999_999)
    (tmp_path / "half.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"."):
        read_gzip(tmp_path / "half.gz", 6_000_000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        for read in (
            open_file,
            sha256_of,
            lambda path: read_bytes(path, 100),
            lambda path: read_gzip(path, 100),
            lambda path: read_maybe_gzip(path, 100),
            lambda path: copy_file(path, tmp_path / "copy"),
        ):
            with pytest.raises(OSError, match="regular"):
                read(path)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, 100)


def test_a_file_for_a_reader_that_takes_a_path_is_unpacked_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.out").write_bytes(b"x" * 100)
    (tmp_path / "b.out.gz").write_bytes(gzip.compress(b"y" * 100))
    for name in ("a.out", "b.out.gz"):
        with plain_file(tmp_path / name, 100) as plain:
            assert plain.name == name.removesuffix(".gz")
            assert len(plain.read_bytes()) == 100
        with pytest.raises(ValueError, match="99"), plain_file(tmp_path / name, 99):
            pass


def test_copies_are_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    copy_file(tmp_path / "a", tmp_path / "b" / "c")
    assert (tmp_path / "b" / "c").read_bytes() == b"x"


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_without_a_name_is_no_file(path):
    with raises_code("not-writable"):
        write_bytes(Path(path), b"")
    with pytest.raises(IsADirectoryError), making_folder(Path(path)):
        pass
