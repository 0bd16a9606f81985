"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from crossprop.errors import StoreError
from crossprop.io import (
    atomic_file,
    atomic_folder,
    file_digest,
    folder_digest,
    read_json,
    write_json,
)


def test_file_takes_its_place_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("first", "second"):
        with atomic_file(path) as draft:
            draft.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "a"
    for name in ("first", "second"):
        with atomic_folder(folder) as draft:
            (draft / name).touch()
        assert [p.name for p in folder.iterdir()] == [name]


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_failed_block_leaves_what_was_there(tmp_path, atomic, error):
    path = tmp_path / "a"
    with atomic(path) as draft:
        (draft if atomic is atomic_file else draft / "x").write_text("old")
    before = sorted(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())

    def fail(draft):
        (draft if atomic is atomic_file else draft / "x").write_text("half")
        raise error

    with pytest.raises(StoreError if error is OSError else error), atomic(path) as draft:
        fail(draft)
    assert sorted(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()) == before
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
def test_full_disk_is_named_with_what_to_do(tmp_path, atomic):
    with (
        pytest.raises(
            StoreError, match=r"a cannot be written: No space left on device \(.*\)\. Free some space"
        ),
        atomic(tmp_path / "a") as draft,
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft))


def test_json_comes_back_and_holds_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 0.1 + 0.2, None, "ü"]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 0.1 + 0.2, None, "ü"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))


def test_digests_follow_names_and_contents(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert file_digest(tmp_path / "a") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    before = folder_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    renamed = folder_digest(tmp_path)
    (tmp_path / "b").write_bytes(b"x")
    assert len({before, renamed, folder_digest(tmp_path)}) == 3
