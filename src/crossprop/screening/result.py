"""The folder of a screening: parts while it runs, then the results; every file is written whole or not at all."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from crossprop.errors import ScreeningError
from crossprop.io import atomic_file

PARTS, RESULTS, TOP, NOTE = "parts", "results.parquet", "top.csv", "screen.json"
_PROGRESS = b"crossprop.progress"
_ROW_GROUP = 1 << 17


@dataclass(frozen=True)
class Progress:
    """How far a screening is: positions before ``stop`` are done; compositions predicted and kept; seconds in all."""

    stop: int = 0
    considered: int = 0
    kept: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ScreenResult:
    """A finished screening; iterating gives the kept compositions as dictionaries, in the order of the space."""

    folder: Path
    note: dict[str, Any]  # content of ``screen.json``
    top: pd.DataFrame  # the ranked table

    def __len__(self) -> int:
        return int(self.note["counts"]["kept"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in read_results(self.folder):
            yield from batch.to_pylist()

    def frame(self) -> pd.DataFrame:
        """All kept compositions at once."""
        return pd.read_parquet(self.folder / RESULTS)


def read_results(folder: Path) -> Iterator[pa.RecordBatch]:
    """The kept compositions of a finished screening in batches, read as they are asked for."""
    with pq.ParquetFile(folder / RESULTS) as file:
        yield from file.iter_batches()


def write_part(folder: Path, kept: pa.Table, start: int, after: Progress) -> None:
    """Write what was kept from position ``start`` on, with the progress behind it."""
    metadata = {**(kept.schema.metadata or {}), _PROGRESS: json.dumps(asdict(after))}
    with atomic_file(folder / PARTS / f"{start:016d}-{after.stop:016d}.parquet") as draft:
        table = kept.replace_schema_metadata(metadata)
        pq.write_table(table, draft, compression="zstd", write_page_checksum=True)


def begin_parts(folder: Path) -> Progress:
    """Remove what does not follow on the parts from position 0, and give the progress of those."""
    chain, progress = read_parts(folder)
    (folder / PARTS).mkdir(exist_ok=True)
    for path in (folder / PARTS).iterdir():
        if path not in chain:
            path.unlink()
    return progress


def read_parts(folder: Path) -> tuple[list[Path], Progress]:
    """The parts that follow on one another from position 0, and the progress in the last of them."""
    chain: list[Path] = []
    stop = 0
    for path in sorted((folder / PARTS).glob("*-*.parquet")):
        start, end = map(int, path.stem.split("-"))
        if start != stop:
            break
        chain.append(path)
        stop = end
    while chain:
        try:
            return chain, Progress(**json.loads(pq.read_schema(chain[-1]).metadata[_PROGRESS]))
        except (OSError, KeyError, TypeError, ValueError):
            chain.pop()  # cut off by a power failure, say: it is computed again
    return chain, Progress()


def write_results(folder: Path, schema: pa.Schema, positions: int) -> None:
    """Join the parts of all positions to ``results.parquet``, in bounded memory."""
    chain, progress = read_parts(folder)
    if progress.stop != positions:
        raise ScreeningError(
            f"{folder / PARTS} ends at {progress.stop:,} of {positions:,} positions. Run the same command again: the "
            "rest is computed anew."
        )
    with atomic_file(folder / RESULTS) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as file:
        waiting = schema.empty_table()
        for path in chain:
            try:
                part = pq.read_table(path, page_checksum_verification=True)
                waiting = pa.concat_tables([waiting, part.cast(schema)])
            except (OSError, ValueError) as error:
                raise ScreeningError(
                    f"{path} is damaged ({error}). Delete it and run the same command again: it is computed anew."
                ) from error
            if waiting.num_rows >= _ROW_GROUP:
                file.write_table(waiting)
                waiting = schema.empty_table()
        file.write_table(waiting)


def write_note(folder: Path, note: dict[str, Any]) -> None:
    """Write ``screen.json``."""
    with atomic_file(folder / NOTE) as draft:
        draft.write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def note_of_same(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Content of ``screen.json`` if the same screening was begun in the folder, ``None`` if the folder is free."""
    path = folder / NOTE
    if not path.exists():
        if strange := [name for name in (RESULTS, TOP, PARTS) if (folder / name).exists()]:
            raise ScreeningError(
                f"{folder} holds {strange[0]} but no {NOTE}, so it is no complete screening. Delete it or name "
                "another folder with --out."
            )
        return None
    try:
        note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before, status, models = dict(note["identity"]), note["status"], note["models"]
        former = {name: models[name]["folder"] for name in dict(before["models"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScreeningError(f"{path} is damaged ({error!r}). Delete the folder or name another with --out.") from error
    changed = [key for key in {**before, **identity} if before.get(key) != identity.get(key)]
    if not changed:
        return note
    texts = {key: f"{key}: {before.get(key)} there, {identity.get(key)} now" for key in changed}
    # A champion may have moved meanwhile: its former version is still in its folder.
    moved = [name for name, digest in before["models"].items() if identity["models"].get(name) != digest]
    texts |= {"models": f"models of {', '.join(moved)}"} if moved else {}
    options = "".join(f" --model {name}={shlex.quote(former[name])}" for name in moved)
    raise ScreeningError(
        f"{folder} holds another screening ({status}). What differs: {'; '.join(texts.values())}. Name another folder "
        f"with --out, delete that one, or repeat its request{f' with{options}' if options else ''}."
    )
