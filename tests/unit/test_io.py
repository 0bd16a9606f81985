"""Files and folders are written whole or not at all."""

import errno
import os

import pytest

from crossprop.errors import StoreError
from crossprop.io import atomic_file, atomic_folder, read_json, write_json


def test_file_or_folder_takes_its_place_when_the_block_ends(tmp_path):
    path, folder = tmp_path / "new" / "a.txt", tmp_path / "b"
    for text in ("first", "second"):
        with atomic_file(path) as draft:
            draft.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
        with atomic_folder(folder) as draft:
            (draft / text).touch()
        assert [p.name for p in folder.iterdir()] == [text]
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("atomic", [atomic_file, atomic_folder])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_failed_block_leaves_what_was_there_and_a_full_disk_is_named(tmp_path, atomic, error):
    path = tmp_path / "a"

    def fill(draft, text):
        (draft if atomic is atomic_file else draft / "x").write_text(text)

    with atomic(path) as draft:
        fill(draft, "old")
    raised, said = (
        (KeyboardInterrupt, None)
        if isinstance(error, KeyboardInterrupt)
        else (StoreError, "a cannot be written: No space left on device. Free some space")
    )
    with pytest.raises(raised, match=said), atomic(path) as draft:  # noqa: PT012 - the draft is half written
        fill(draft, "half")
        raise error
    assert [p.read_text() for p in tmp_path.rglob("*") if p.is_file()] == ["old"]
    assert not list(tmp_path.glob("*.tmp"))


def test_json_comes_back_and_holds_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 0.1 + 0.2, None, "ü"]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 0.1 + 0.2, None, "ü"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
