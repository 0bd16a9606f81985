"""The folder of a screening: whole parts, whatever happens in between, and never another request's."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossprop.errors import ScreeningError, StoreError
from crossprop.io import exclusive
from crossprop.screening import result

SCHEMA = pa.schema([("position", pa.int64())])
IDENTITY = {"where": "bulk > 1", "models": {"bulk": "aaaa", "gap": "bbbb"}}


def add(folder, stop, *positions):
    """Write the next part, as a running screening does."""
    before = result.read_parts(folder)[1]
    after = result.Progress(stop, before.considered + 9, before.kept + len(positions), before.seconds + 1.0)
    result.write_part(folder, pa.table([pa.array(positions, pa.int64())], schema=SCHEMA), before.stop, after)


def positions(folder):
    result.write_results(folder, SCHEMA, result.read_parts(folder)[1].stop)
    return pq.read_table(folder / result.RESULTS).column("position").to_pylist()


@pytest.fixture
def begun(tmp_path):
    """A folder with three parts, one of them without survivors."""
    assert result.begin_parts(tmp_path) == result.Progress()
    add(tmp_path, 10, 1, 3)
    add(tmp_path, 20)
    add(tmp_path, 30, 25)
    return tmp_path


def test_goes_on_where_it_was(begun):
    (begun / result.PARTS / "0000000000000030-0000000000000040.parquet.17.tmp").write_bytes(b"half a part")
    assert result.begin_parts(begun) == result.Progress(30, 27, 3, 3.0)
    add(begun, 40, 31, 39)
    assert result.read_parts(begun)[1] == result.Progress(40, 36, 5, 4.0)
    assert positions(begun) == [1, 3, 25, 31, 39]
    assert not list(begun.glob("**/*.tmp"))


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_a_part_that_was_cut_off_is_done_again(begun, cut):
    """A power failure may leave the last part half written."""
    last = sorted((begun / result.PARTS).iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-cut])
    assert result.begin_parts(begun).stop == 20
    add(begun, 30, 25)
    assert positions(begun) == [1, 3, 25]
    min((begun / result.PARTS).iterdir()).unlink()
    assert result.begin_parts(begun).stop == 0, "what does not follow on the parts before is done again"


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_part_in_the_middle_is_named(begun, damage):
    first = min((begun / result.PARTS).iterdir())
    content = bytearray(first.read_bytes())
    if damage == "cut":
        del content[-5:]
    else:
        values = pq.read_metadata(first).row_group(0).column(0)
        content[values.data_page_offset - 1] ^= 1  # of the page before, which holds the values
    first.write_bytes(content)
    with pytest.raises(ScreeningError, match=f"{first.name} is damaged.*Delete it"):
        result.write_results(begun, SCHEMA, 30)
    assert not (begun / result.RESULTS).exists()


def test_results_of_a_part_of_the_space_are_not_written(begun):
    sorted((begun / result.PARTS).iterdir())[-1].unlink()
    with pytest.raises(ScreeningError, match="ends at 20 of 30 positions"):
        result.write_results(begun, SCHEMA, 30)


def test_full_disk_says_what_is_safe(begun):
    draft = begun / result.PARTS / f"{30:016d}-{40:016d}.parquet.{os.getpid()}.tmp"
    draft.symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"No space left.*what is finished is kept"), exclusive(begun / ".lock", "is"):
        add(begun, 40, 33)
    assert result.begin_parts(begun).stop == 30
    assert positions(begun) == [1, 3, 25]


def test_folder_of_another_screening_is_refused_with_what_differs(tmp_path):
    def refusal(**changes: object) -> str:
        with pytest.raises(ScreeningError) as error:
            result.note_of_same(tmp_path, {**IDENTITY, **changes})
        return str(error.value)

    assert result.note_of_same(tmp_path, IDENTITY) is None
    models = {"bulk": {"folder": "/models/bulk"}, "gap": {"folder": "/models/of gap"}}
    note = {"status": "running", "identity": IDENTITY, "models": models}
    result.write_note(tmp_path, note)
    assert result.note_of_same(tmp_path, IDENTITY) == note
    text = refusal(where="bulk > 2")
    assert "where: bulk > 1 there, bulk > 2 now" in text
    assert "--model" not in text
    # where a champion has moved, the former model is named
    text = refusal(models={"bulk": "aaaa", "gap": "cccc"})
    assert "models of gap" in text
    assert "--model gap='/models/of gap'" in text
    assert "--model bulk" not in text
    for damaged in ("{", json.dumps({"status": "running"})):
        (tmp_path / result.NOTE).write_text(damaged)
        assert "is damaged" in refusal()
    for strange in (result.RESULTS, result.TOP):  # perhaps not of a screening: it would be replaced
        (tmp_path / strange).touch()
        (tmp_path / result.NOTE).unlink(missing_ok=True)
        assert f"holds {strange} but no screen.json" in refusal()
        (tmp_path / strange).unlink()
