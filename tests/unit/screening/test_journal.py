"""What is written while a screening runs: whole batches, whatever happens in between."""

from __future__ import annotations

import errno
import os

import pyarrow as pa
import pytest

from crossprop.errors import ScreeningError
from crossprop.screening.result import (
    JOURNAL,
    RESULTS,
    STREAM,
    Journal,
    read_progress,
    read_survivors,
    write_results,
)

SCHEMA = pa.schema([("position", pa.int64())])


def batch(*positions):
    return pa.record_batch([pa.array(positions, pa.int64())], schema=SCHEMA)


def positions(folder):
    return [p for b in read_survivors(folder) for p in b.column(0).to_pylist()]


@pytest.fixture
def begun(tmp_path):
    """A folder with three batches, one of them without survivors."""
    with Journal(tmp_path, SCHEMA) as journal:
        journal.append(batch(1, 3), 10, 9, 1.0)
        journal.append(batch(), 20, 10, 2.0)
        journal.append(batch(25), 30, 8, 3.5)
    return tmp_path


def test_goes_on_where_it_was(begun):
    assert (read_progress(begun).stop, read_progress(begun).considered, read_progress(begun).kept) == (
        30,
        27,
        3,
    )
    with Journal(begun, SCHEMA) as journal:
        journal.append(batch(31, 39), 40, 10, 4.0)
    assert positions(begun) == [1, 3, 25, 31, 39]
    assert read_progress(begun).kept == 5


@pytest.mark.parametrize("cut", [1, 7, 100, 200])
def test_a_batch_that_was_cut_off_is_done_again(begun, cut):
    """A kill, or a power cut, may leave the last batches' bytes or line half written."""
    with (begun / STREAM).open("ab") as stream:
        stream.truncate((begun / STREAM).stat().st_size - cut)
    stop = read_progress(begun).stop
    assert stop < 30
    with Journal(begun, SCHEMA) as journal:
        assert journal.progress.stop == stop
        journal.append(batch(25), 30, 8, 3.5)
    assert [p for p in positions(begun) if p >= stop] == [25]


@pytest.mark.parametrize("rest", ['{"stop": 40, "cons', "\x00\x00\x00\n", '{"stop": 40}\n', "\n", "[1, 2]\n"])
def test_a_torn_line_does_not_count(begun, rest):
    with (begun / JOURNAL).open("a") as journal, (begun / STREAM).open("ab") as stream:
        journal.write(rest)
        stream.write(b"half a batch")
    assert read_progress(begun).stop == 30
    with Journal(begun, SCHEMA) as reopened:
        reopened.append(batch(33), 40, 10, 4.0)
    assert positions(begun) == [1, 3, 25, 33]
    assert read_progress(begun).stop == 40


def test_without_its_survivors_it_begins_anew(begun):
    (begun / STREAM).unlink()
    with Journal(begun, SCHEMA) as journal:
        assert journal.progress.stop == 0
        journal.append(batch(1), 10, 9, 1.0)
    assert positions(begun) == [1]


def test_full_disk_says_what_is_safe(begun, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = Journal(begun, SCHEMA)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ScreeningError, match=r"disk is full.*30 positions, 3 rows kept\) is not lost"):
        journal.append(batch(33), 40, 10, 4.0)
    monkeypatch.undo()
    journal.close()
    assert positions(begun)[:3] == [1, 3, 25]
    assert read_progress(begun).stop == 30


def test_results_are_all_survivors_in_row_groups(begun):
    import pyarrow.parquet as pq

    write_results(begun, SCHEMA)
    assert pq.read_table(begun / RESULTS).column("position").to_pylist() == [1, 3, 25]
    assert not list(begun.glob("*.draft"))


def test_results_of_no_survivors_are_an_empty_table(tmp_path):
    import pyarrow.parquet as pq

    with Journal(tmp_path, SCHEMA) as journal:
        journal.append(batch(), 10, 10, 1.0)
    write_results(tmp_path, SCHEMA)
    assert pq.read_table(tmp_path / RESULTS).num_rows == 0
