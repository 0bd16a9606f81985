"""A saved ensemble compiled for serving: the same predictions, many times faster, without Keras and scikit-learn."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
import uuid
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import CrosspropError, DataError, ModelFormatError, ShapeMismatchError, StoreError
from crossprop.features.magpie import (
    keep_element_tables,
    physical_attributes,
    restore_element_tables,
    tables_origin,
)
from crossprop.methods import Representation
from crossprop.models.export import INPUT, compile_member, network_to_onnx
from crossprop.models.saved import INFO_FILE, SCALING_FILE, SOURCE_FILE, read_info
from crossprop.models.target_transform import TargetTransform
from crossprop.models.trees import BLOCK, FOREST, PackedTrees, beside_each_other, predict_together
from crossprop.paths import WORK

PLAN_FILE = "plan.json"
ELEMENTS_FILE = "elements.npz"


@dataclass(frozen=True)
class Part:
    """One ensemble of a model: the only one, or one that is blended.

    Attributes:
        folder: Where it lies.
        name: Its folder relative to the model's.
        info: What its ``model.json`` holds.
        weights: Weight of each member in its fold's prediction.
    """

    folder: Path
    name: str
    info: dict[str, Any]
    weights: tuple[float, ...]


def parts_of(folder: Path, info: dict[str, Any]) -> list[Part]:
    """The ensembles of a model.

    Raises:
        ModelFormatError: They are incomplete, or weights and members do not match.
    """
    if "parts" not in info:
        return [Part(folder, ".", info, (1.0,) * len(_members(folder, info)))]
    given = info["parts"] if isinstance(info["parts"], dict) else {}
    parts: list[Part] = []
    for name, weights in given.items():
        own = read_info(folder / name)
        if np.shape(weights) != (len(_members(folder / name, own)),):
            parts = []
            break
        parts.append(Part(folder / name, name, own, tuple(float(w) for w in weights)))
    if not parts or len({len(part.weights) for part in parts}) != 1:
        raise ModelFormatError(
            f"{folder}/{INFO_FILE}: parts and weights do not match. Register the model again."
        )
    return parts


def _members(folder: Path, info: dict[str, Any]) -> list[str]:
    members = info.get("members")
    if not members:
        raise ModelFormatError(f"{folder}/{INFO_FILE} lists no members. Register the model again.")
    return list(members)


@dataclass
class _Draft:
    """The files and the plan of a compiled model while it is being written."""

    folder: Path
    representations: list[dict[str, Any]] = field(default_factory=list)
    members: list[dict[str, Any]] = field(default_factory=list)
    trees: dict[str, list[tuple[dict[str, Any], PackedTrees]]] = field(default_factory=dict)

    def representation(self, part: Part) -> int:
        """Number of a part's representation; parts with the same one share it, and with it the source network."""
        entry = dict(self._described(part))
        if entry not in self.representations:
            self.representations.append(entry)
        return self.representations.index(entry)

    def _described(self, part: Part) -> Iterator[tuple[str, Any]]:
        kind = part.info["representation"]
        yield "kind", str(Representation(kind))
        layer, scaling = None, None
        if kind == Representation.ACTIVATIONS:
            layer = part.info["layer"]
        elif kind == Representation.PREDICTED_SOURCES:
            scaling = load_scaling(part.folder / SCALING_FILE)
        else:
            return
        source = part.folder / SOURCE_FILE
        onnx = network_to_onnx(source, layer=layer, scaling=scaling)
        name = f"source_{hashlib.sha256(onnx).hexdigest()[:16]}.onnx"
        (self.folder / name).write_bytes(onnx)
        yield "network", name

    def member(self, part: Part, k: int, representation: int) -> None:
        """Compile one fold model, unless its weight is nothing."""
        if part.weights[k] == 0:
            return
        origin = f"{part.name}/{part.info['members'][k]}"
        compiled = compile_member(part.folder / part.info["members"][k])
        stem = f"member_{len(self.members):03d}"
        for name, array in compiled.arrays.items():
            np.save(self.folder / f"{stem}.{name}.npy", array, allow_pickle=False)
        if compiled.onnx is not None:
            (self.folder / f"{stem}.onnx").write_bytes(compiled.onnx)
        note = compiled.note | {
            "stem": stem,
            "arrays": sorted(compiled.arrays),
            "origin": origin,
            "representation": representation,
            "fold": k,
            "weight": part.weights[k],
        }
        self.members.append(note)
        if compiled.trees is not None:
            note["forest"] = f"trees_{representation:02d}"
            self.trees.setdefault(note["forest"], []).append((note, compiled.trees))

    def plant(self) -> None:
        """Write the trees of all members, those of one representation beside each other."""
        for name, planted in self.trees.items():
            moved = beside_each_other([trees for _, trees in planted])
            first = 0
            for (note, own), trees in zip(planted, moved, strict=True):
                note["trees"] = [first, first + len(trees.roots)]
                note["n_bytes"] = own.nodes.nbytes + own.leaves.nbytes
                first += len(trees.roots)
            shared = moved[0].nodes, np.concatenate([trees.roots for trees in moved]), moved[0].leaves
            for part, array in zip(FOREST, shared, strict=True):
                np.save(self.folder / f"{name}.{part}.npy", array, allow_pickle=False)


def build(folder: Path, destination: Path) -> None:
    """Compile a saved model into an existing, empty folder: ONNX, npy and JSON files.

    Raises:
        ModelFormatError: The model is incomplete, damaged, or holds something that is not trusted.
    """
    parts = parts_of(folder, read_info(folder))
    draft = _Draft(destination)
    for part in parts:
        representation = draft.representation(part)
        for k in range(len(part.weights)):
            draft.member(part, k, representation)
    draft.plant()
    keep_element_tables(destination / ELEMENTS_FILE)
    plan = {
        "n_members": len(parts[0].weights),
        "representations": draft.representations,
        "members": draft.members,
        "forests": sorted(draft.trees),
    }
    (destination / PLAN_FILE).write_text(json.dumps(plan, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_scaling(path: Path) -> np.ndarray:
    """Mean and deviation of a source network's inputs, shape (2, n_features).

    Raises:
        ModelFormatError: The file is missing or damaged.
    """
    try:
        scaling: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}. Register or pull it again.") from error
    return scaling


FORMAT = 2
"""To be raised when what is compiled, or how, changes."""

VARIABLE = "CROSSPROP_CACHE"
CHECKSUMS = "checksums.json"
_SUFFIXES = frozenset({".json", ".keras", ".skops", ".npy"})
_CHUNK = 1 << 20
_READERS = 4
_KEPT_UNUSED = 30 * 24 * 3600
"""Seconds that an entry is kept after it was last loaded."""


def cache_folder(given: Path | None = None) -> Path:
    """Folder of the compiled models: the given one, that of ``CROSSPROP_CACHE``, or ``.crossprop/compiled``."""
    if given is not None:
        return Path(given)
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else WORK / "compiled"


def content_key(folder: Path) -> str:
    """Digest of a saved model's files and of what else its compiled form depends on."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    with ThreadPoolExecutor(_READERS) as readers:
        digests = list(readers.map(_sha256, files))
    hasher = hashlib.sha256(f"compiled {FORMAT} {tables_origin()}\0".encode())
    for path, digest in zip(files, digests, strict=True):
        hasher.update(f"{path.relative_to(folder).as_posix()}\0{digest}\0".encode())
    return hasher.hexdigest()[:32]


def entry(
    folder: Path,
    build: Callable[[Path, Path], None],
    cache: Path | None = None,
    compile_apart: Callable[[], None] | None = None,
) -> Path:
    """The compiled form of a saved model; made if there is none, made again if it is damaged.

    Processes that want the same model at the same time wait for the one that makes it.

    Args:
        folder: A saved model.
        build: Compiles the model in its first argument into the empty folder in its second.
        cache: Folder of the compiled models; see :func:`cache_folder`.
        compile_apart: Has another process put the model into the cache, where it is not there yet.

    Returns:
        Folder of the compiled files; nobody changes them.

    Raises:
        StoreError: The cache cannot be written.
    """
    from filelock import FileLock

    root = cache_folder(cache)
    place = root / content_key(folder)
    if is_whole(place):
        with suppress(OSError):  # a cache that is only read is fine
            os.utime(place / CHECKSUMS)
        return place
    if compile_apart is not None:
        compile_apart()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{place.name}.lock"):
            if not is_whole(place):
                _drop_unused(root)
                _make(folder, build, place)
    except OSError as error:
        raise StoreError(
            f"The compiled form of {folder} cannot be kept in {root}: {error}. Make room there, or name a folder that "
            f"can be written with the environment variable {VARIABLE}."
        ) from error
    return place


def is_whole(place: Path) -> bool:
    """Whether a folder holds all the files that were written, as they were written."""
    try:
        stated = json.loads((place / CHECKSUMS).read_text(encoding="utf-8"))
        files = [place / name for name in stated]
        if not files or any(path.stat().st_size != stated[path.name][0] for path in files):
            return False
        with ThreadPoolExecutor(_READERS) as readers:
            sums = list(readers.map(_crc32, files))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
    return sums == [stated[path.name][1] for path in files]


def _make(folder: Path, build: Callable[[Path, Path], None], place: Path) -> None:
    draft = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    draft.mkdir()
    try:
        build(folder, draft)
        files = sorted(path for path in draft.iterdir() if path.is_file())
        sums = {path.name: [path.stat().st_size, _crc32(path)] for path in files}
        (draft / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
        if place.exists():
            damaged = place.with_name(f"{place.name}.{uuid.uuid4().hex[:8]}.tmp")
            place.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _drop_unused(root: Path) -> None:
    """Remove what has not been loaded for a month, and what a killed process left half-made a day ago."""
    now = time.time()
    for folder in root.iterdir():
        mark = folder / CHECKSUMS
        with suppress(OSError):
            kept = 24 * 3600 if folder.suffix == ".tmp" else _KEPT_UNUSED
            used = mark.stat().st_mtime if mark.is_file() else folder.stat().st_mtime
            if folder.is_dir() and now - used > kept:
                shutil.rmtree(folder, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value


@dataclass(frozen=True)
class Forest:
    """The trees of all members of one representation; see :class:`~crossprop.models.trees.PackedTrees`."""

    nodes: np.ndarray
    roots: np.ndarray
    leaves: np.ndarray


def load_forests(names: Iterable[str], folder: Path) -> dict[str, Forest]:
    """The forests of a compiled model by name."""
    return {name: Forest(*(mapped(folder / f"{name}.{part}.npy") for part in FOREST)) for name in names}


def mapped(path: Path) -> np.ndarray:
    """An array that stays in its file and is read as it is needed."""
    # a plain view of the mapped file: slicing a memmap itself costs a millisecond or two a prediction
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def together(members: Sequence[Member], rows: int) -> list[list[int]]:
    """Places of the members that are asked together about so many rows: trees, as far as one walk can hold them."""
    groups: list[list[int]] = []
    open_groups: dict[str, list[int]] = {}
    room: dict[str, int] = {}
    for place, member in enumerate(members):
        pairs, forest = rows * member.n_trees, member.forest
        if forest and pairs <= room.get(forest, 0):
            room[forest] -= pairs
            open_groups[forest].append(place)
            continue
        groups.append([place])
        if forest:
            room[forest], open_groups[forest] = BLOCK - pairs, groups[-1]
    return groups


def predict_members(members: Sequence[Member], features: np.ndarray) -> list[np.ndarray]:
    """What each of several members of one forest predicts, as ``Member.predict`` gives it."""
    predicted = predict_together([member.trees for member in members], features)
    return [member.in_unit(one) for member, one in zip(members, predicted, strict=True)]


class Body(Protocol):
    """What predicts in the scale of learning."""

    rows: int
    """Rows of one task: many enough to keep a core busy, few enough to stay in its cache."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions for float32 features of shape (n, n_features), n at least 1; shape (n,)."""
        ...


class Network:
    """A network, or anything else that is one ONNX model.

    ONNX Runtime gets one thread: the work is shared out by rows and by members, which keeps all cores busier than
    sharing out each matrix product does.

    Args:
        path: The model.
        dtype: Type of its input.
    """

    rows = 256

    def __init__(self, path: Path, dtype: type[np.floating] = np.float32) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class
            raise ModelFormatError(
                f"{path} cannot be loaded: {error}. Delete it; it is made again."
            ) from error
        self._dtype = dtype

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """Outputs for features of shape (n, n_features), shape (n, n_outputs)."""
        given = np.ascontiguousarray(features, dtype=self._dtype)
        outputs: np.ndarray = self._session.run(None, {INPUT: given})[0]
        return outputs

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The first output, shape (n,)."""
        return self.outputs(features)[:, 0]


class Kernel:
    """A support vector machine behind standardised features."""

    rows = 128

    def __init__(self, exponents: Network, arrays: Mapping[str, np.ndarray]) -> None:
        self._exponents = exponents
        self._arrays = arrays

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,)."""
        terms = self._exponents.outputs(_standardised(features, self._arrays))
        np.exp(terms, out=terms)
        # not "@", which would start threads of its own
        predicted: np.ndarray = np.einsum("ij,j->i", terms, self._arrays["coefficients"])
        return predicted + self._arrays["intercept"]


class Linear:
    """A linear model, behind standardised features if it was fitted so."""

    rows = 4096

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,)."""
        predicted: np.ndarray = (
            _standardised(features, self._arrays) @ self._arrays["coefficients"] + self._arrays["intercept"]
        )
        return predicted


class Trees:
    """An ensemble of trees; its arrays stay in their files and are read as they are needed."""

    rows = 1024

    def __init__(self, note: Mapping[str, Any], forest: Forest, weights: np.ndarray) -> None:
        self.packed = PackedTrees(
            forest.nodes,
            forest.roots[slice(*note["trees"])],
            forest.leaves,
            n_features=note["n_features"],
            reduction=note["reduction"],
            constant=note["constant"],
            weights=weights,
        )

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,)."""
        return self.packed.predict(features)


class Member:
    """A fitted model in its compiled form.

    Attributes:
        representation: Number of the representation that it takes.
        fold: Fold to whose prediction it belongs.
        weight: Its share in that.
        rows: Rows of one task.
        cost: What one row costs, roughly: the bytes of its weights.
        forest: Name of the files that its trees share with those of other members; empty for what is no trees.
    """

    def __init__(
        self, note: Mapping[str, Any], folder: Path, original: Path, forests: Mapping[str, Forest]
    ) -> None:
        """Load a member.

        Args:
            note: Its entry in the plan.
            folder: Folder of the compiled files.
            original: Folder of the saved model.
            forests: From :func:`~crossprop.inference.compiled.load_forests`.
        """
        self.representation = int(note["representation"])
        self.fold = int(note["fold"])
        self.weight = float(note["weight"])
        self._transform: TargetTransform | None = None
        self._body = self._load(note, folder, original, forests)
        self.rows = self._body.rows if hasattr(self._body, "rows") else 4096
        self.forest = str(note.get("forest", ""))
        self.cost = sum(path.stat().st_size for path in folder.glob(f"{note['stem']}.*"))
        self.cost += int(note.get("n_bytes", 0))

    def _load(
        self, note: Mapping[str, Any], folder: Path, original: Path, forests: Mapping[str, Forest]
    ) -> Any:
        kind, stem = note["kind"], note["stem"]
        if kind == "constant":
            return float(note["value"])
        if kind == "original":
            from crossprop.models.fitted import FittedModel

            return FittedModel.load(original / note["origin"])
        self._transform = TargetTransform(**note["transform"])
        arrays = {name: mapped(folder / f"{stem}.{name}.npy") for name in note["arrays"]}
        if kind == "network":
            return Network(folder / f"{stem}.onnx")
        if kind == "kernel":
            return Kernel(Network(folder / f"{stem}.onnx", np.float64), arrays)
        if kind == "linear":
            return Linear(arrays)
        if kind == "trees":
            return Trees(note, forests[note["forest"]], arrays["weights"])
        raise ModelFormatError(f"{folder} holds a member of kind {kind!r}. Delete it; it is made again.")

    @property
    def trees(self) -> PackedTrees:
        """Its trees, where it is a member of a forest."""
        packed: PackedTrees = self._body.packed
        return packed

    @property
    def n_trees(self) -> int:
        """How many they are; 0 for what has none."""
        return len(self.trees.roots) if self.forest else 0

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value that it can predict, in the property's unit; infinite where nothing bounds it."""
        if isinstance(self._body, float):
            return self._body, self._body
        if self._transform is None:
            return -np.inf, np.inf
        low, high = self._transform.inverse(np.array([-np.inf, np.inf])).tolist()
        return low, high

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions for a representation of shape (n, n_features), shape (n,), in the property's unit."""
        if isinstance(self._body, float):
            return np.full(len(features), self._body)
        return self.in_unit(self._body.predict(features))

    def in_unit(self, predicted: np.ndarray) -> np.ndarray:
        """What the body predicted, in the property's unit."""
        return predicted if self._transform is None else self._transform.inverse(predicted)


def _standardised(features: np.ndarray, scaling: Mapping[str, np.ndarray]) -> np.ndarray:
    """As scikit-learn's StandardScaler does it in float32."""
    return (features - scaling["mean"]) / scaling["deviation"] if "mean" in scaling else features


_SLACK = 1e-9
"""Share of the bounds by which a value may miss the range: sums in another order differ by less."""


@dataclass(frozen=True)
class Turn:
    """One member in the order in which they are asked.

    Attributes:
        place: Its place among the members.
        share: Its share in the prediction.
        least: What the members after it add to the prediction at least.
        most: The same at most.
    """

    place: int
    share: float
    least: float
    most: float


def turns(members: Sequence[Member], n_folds: int) -> tuple[Turn, ...]:
    """The members in the order that settles most for its cost, those without bounds first."""

    def settled(place: int) -> float:
        low, high = members[place].bounds
        return abs(members[place].weight) * (high - low) / max(members[place].cost, 1)

    order, least, most = [], 0.0, 0.0
    for place in sorted(range(len(members)), key=settled):
        share = members[place].weight / n_folds
        order.append(Turn(place, share, least, most))
        ends = [share * bound for bound in members[place].bounds]
        slack = _SLACK * max(map(abs, ends))
        least, most = least + min(ends) - slack, most + max(ends) + slack
    return tuple(order[::-1])


def answers_within(
    order: Sequence[Turn],
    n: int,
    low: float,
    high: float,
    ask: Callable[[int, NDArray[np.intp]], NDArray[np.float64]],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Ask member after member about the rows whose value may still lie within a range.

    Args:
        order: From :func:`turns`.
        n: Rows.
        low: Lower end of the range.
        high: Upper end.
        ask: Gives a member's answers for some rows.

    Returns:
        The rows that are left, in their order, and all members' answers for them, shape (n_members, n_left).
    """
    left, so_far, slack = np.arange(n), np.zeros(n), np.zeros(n)
    answers = np.empty((len(order), n))
    for turn in order:
        answers[turn.place, left] = found = ask(turn.place, left)
        so_far, slack = so_far + turn.share * found, slack + _SLACK * np.abs(turn.share * found)
        # never what is no number
        outside = (so_far + turn.most + slack < low) | (so_far + turn.least - slack > high)
        left, so_far, slack = left[~outside], so_far[~outside], slack[~outside]
        if not len(left):
            break
    return left, answers[:, left]


Task = Callable[[], None]
_TURN_SECONDS = 0.002
"""Short tasks of a caller that are done in one turn: queueing anew after each would cost more than some of them."""

_pools: dict[int, ThreadPoolExecutor] = {}
_guard = threading.Lock()


def available_threads() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run_tasks(tasks: Iterable[Task], threads: int) -> None:
    """Run tasks that do not depend on each other, on so many threads, and wait for all.

    Callers take turns: a large batch that came first does not keep one formula waiting for more than a task or two.

    Raises:
        Exception: What a task raised first; the tasks that were not begun by then are dropped.
    """
    waiting = deque(tasks)
    if threads == 1 or len(waiting) == 1:
        for task in waiting:
            task()
        return
    if waiting:
        _Job(waiting, _pool(threads)).run(threads)


class _Job:
    """The tasks of one caller; every step does a few short ones of them, or one that is not, and queues again."""

    def __init__(self, waiting: deque[Task], pool: ThreadPoolExecutor) -> None:
        self._waiting = waiting
        self._pool = pool
        self._steps = 0
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._error: BaseException | None = None

    def run(self, threads: int) -> None:
        self._steps = min(threads, len(self._waiting))
        for _ in range(self._steps):
            self._pool.submit(self._step)
        self._finished.wait()
        if self._error is not None:
            raise self._error

    def _step(self) -> None:
        began = time.monotonic()
        try:
            while time.monotonic() - began < _TURN_SECONDS:
                try:
                    task = self._waiting.popleft()
                except IndexError:  # others were quicker
                    self._leave()
                    return
                task()
            self._pool.submit(self._step)
        except BaseException as error:
            self._waiting.clear()
            self._leave(error)

    def _leave(self, error: BaseException | None = None) -> None:
        with self._lock:
            self._error = self._error or error
            self._steps -= 1
            if not self._steps:
                self._finished.set()


def _pool(threads: int) -> ThreadPoolExecutor:
    with _guard:
        if not _pools:
            os.register_at_fork(after_in_child=_forget)
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="crossprop-predict")
        return _pools[threads]


def _forget() -> None:
    """Threads and held locks do not survive a fork."""
    global _guard
    _guard = threading.Lock()
    _pools.clear()


ROWS: Final = 512
"""Rows that are represented at once."""
WITH_ATTRIBUTES: Final = frozenset(
    {Representation.PHYSICAL_ATTRIBUTES, Representation.COMBINED, Representation.PREDICTED_SOURCES}
)
_KEPT_BYTES: Final = 32 << 20


@dataclass(frozen=True)
class Source:
    """A representation that a model reads.

    Attributes:
        kind: Which.
        network: The source network, where the kind has one.
        name: Its file, named by a digest of its content.
    """

    kind: Representation
    network: Network | None
    name: str

    @classmethod
    def load(cls, described: Mapping[str, Any], place: Path) -> Self:
        """Load what an entry of a compiled model's plan describes.

        Raises:
            ModelFormatError: The source network cannot be loaded.
        """
        name = described.get("network", "")
        return cls(Representation(described["kind"]), Network(place / name) if name else None, name)


class Recent:
    """Arrays that were computed last, by what they are and of which rows; threads may share it.

    A request for many properties has each model represent the same rows, one after the other or at the same time.
    """

    def __init__(self, n_bytes: int = _KEPT_BYTES) -> None:
        self._n_bytes = n_bytes
        self._arrays: OrderedDict[tuple[str, bytes], np.ndarray] = OrderedDict()
        self._taken = 0
        self._lock = threading.Lock()

    def get(self, what: str, digest: bytes, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array that is kept under a name and the digest of its rows, or the computed one; nobody may write."""
        key = what, digest
        with self._lock:
            if (kept := self._arrays.get(key)) is not None:
                self._arrays.move_to_end(key)
                return kept
        made = compute()
        made.setflags(write=False)
        with self._lock:
            if key not in self._arrays:  # somebody else may have been quicker
                self._arrays[key] = made
                self._taken += made.nbytes
            while self._taken > self._n_bytes:
                self._taken -= self._arrays.popitem(last=False)[1].nbytes
        return made


_recent = Recent()


def represent(sources: Sequence[Source], fractions: np.ndarray, threads: int) -> list[np.ndarray]:
    """Every representation of the sources, float32, shapes (n, width).

    Args:
        sources: What a model reads.
        fractions: Elemental fractions, float64, shape (n, 86).
        threads: Threads to use.
    """
    pieces: list[list[np.ndarray]] = []
    tasks: list[Task] = []
    for start in range(0, len(fractions), ROWS):
        pieces.append([])
        tasks.append(partial(_represent_rows, sources, fractions[start : start + ROWS], pieces[-1]))
    run_tasks(tasks, threads)
    return [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)]


def _represent_rows(sources: Sequence[Source], fractions: np.ndarray, given: list[np.ndarray]) -> None:
    digest = hashlib.sha256(fractions.tobytes()).digest()
    attributes = combined = small = fractions.astype(np.float32)
    if any(source.kind in WITH_ATTRIBUTES for source in sources):
        attributes = _recent.get(
            "attributes", digest, lambda: physical_attributes(fractions).astype(np.float32)
        )
        combined = np.concatenate([small, attributes], axis=1)
    for source in sources:
        if source.kind is Representation.ELEMENTAL_FRACTIONS:
            given.append(small)
        elif source.kind is Representation.PHYSICAL_ATTRIBUTES:
            given.append(attributes)
        elif source.kind is Representation.COMBINED:
            given.append(combined)
        else:
            assert source.network is not None
            read = small if source.kind is Representation.ACTIVATIONS else combined
            outputs = _recent.get(source.name, digest, partial(source.network.outputs, read))
            activations = source.kind is Representation.ACTIVATIONS
            given.append(outputs if activations else np.concatenate([attributes, outputs], axis=1))


_ROWS_AT_ONCE = 8192
"""Rows that are worked on together: bounds the memory beyond the result to about 20 MiB."""


class CompiledPredictor:
    """A compiled ensemble or blend; immutable, so that threads may share it.

    Its predictions are those of ``crossprop.models.saved.load_predictor`` to within float32's rounding (networks) or
    exactly (trees).

    Attributes:
        folder: Where the saved ensemble lies.
        info: What its ``model.json`` holds.
        threads: Threads that one prediction uses at most.
        n_bytes: Size of the compiled files, which is about the memory that they take.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any], place: Path, threads: int) -> None:
        self.folder = folder
        self.info = info
        self.threads = threads
        self.n_bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        plan = json.loads((place / PLAN_FILE).read_text(encoding="utf-8"))
        self._n_members = int(plan["n_members"])
        self._sources = [Source.load(described, place) for described in plan["representations"]]
        forests = load_forests(plan["forests"], place)
        members = [Member(note, place, folder, forests) for note in plan["members"]]
        self._members = sorted(members, key=lambda member: -member.cost)
        self._turns = turns(self._members, self._n_members)
        if any(source.kind in WITH_ATTRIBUTES for source in self._sources):
            restore_element_tables(place / ELEMENTS_FILE)

    def predict_members(self, fractions: np.ndarray) -> np.ndarray:
        """Predictions of every fold, shape (n_members, n_samples), in the property's unit.

        Args:
            fractions: Elemental fractions, float64, shape (n_samples, 86).

        Raises:
            ShapeMismatchError: The fractions have another shape.
            DataError: A row is no composition, and the model reads physical attributes.
        """
        fractions = _checked(fractions)
        predicted = np.zeros((self._n_members, len(fractions)))
        for start in range(0, len(fractions), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            self._predict_into(predicted[:, rows], fractions[rows])
        return predicted

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        """Mean of the folds' predictions, shape (n_samples,), in the property's unit; as :meth:`predict_members`."""
        mean: np.ndarray = self.predict_members(fractions).mean(axis=0)
        return mean

    def predict_within(self, fractions: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Predict the rows whose prediction may lie within a range; the others cost a part of the work, or little.

        Args:
            fractions: Elemental fractions, float64, shape (n_samples, 86).
            low: Lower end of the range, in the property's unit; may be infinite.
            high: Upper end.

        Returns:
            Numbers of the rows that are left, shape (n_left,), among them all whose prediction lies in the range; and
            their predictions as :meth:`predict` gives them, same shape.
        """
        fractions = _checked(fractions)
        rows, values = [np.zeros(0, dtype=np.intp)], [np.zeros(0)]
        for start in range(0, len(fractions), _ROWS_AT_ONCE):
            features = represent(self._sources, fractions[start : start + _ROWS_AT_ONCE], self.threads)
            ask = partial(self._ask, features)
            left, answers = answers_within(self._turns, len(features[0]), low, high, ask)
            rows.append(start + left)
            predicted = np.zeros((self._n_members, len(left)))
            self._combine(answers, predicted)
            values.append(predicted.mean(axis=0))
        return np.concatenate(rows), np.concatenate(values)

    def _ask(self, features: list[np.ndarray], place: int, left: np.ndarray) -> np.ndarray:
        member = self._members[place]
        given = features[member.representation]
        given = given if len(left) == len(given) else given[left]
        answer = np.empty(len(given))
        run_tasks(_tasks(member, given, answer), self.threads)
        return answer

    def _predict_into(self, predicted: np.ndarray, fractions: np.ndarray) -> None:
        features = represent(self._sources, fractions, self.threads)
        answers = np.empty((len(self._members), len(fractions)))
        tasks: list[Task] = []
        for places in together(self._members, len(fractions)):
            member = self._members[places[0]]
            given = features[member.representation]
            if len(places) == 1:
                tasks += _tasks(member, given, answers[places[0]])
            else:
                tasks.append(
                    partial(_answer_together, [self._members[i] for i in places], given, answers, places)
                )
        run_tasks(tasks, self.threads)
        self._combine(answers, predicted)

    def _combine(self, answers: np.ndarray, predicted: np.ndarray) -> None:
        for answer, member in zip(answers, self._members, strict=True):
            predicted[member.fold] += member.weight * answer


def load_compiled(
    folder: Path | str,
    *,
    cache: Path | None = None,
    threads: int | None = None,
    compile_apart: Callable[[], None] | None = None,
) -> CompiledPredictor:
    """Load a saved ensemble or blend for serving, compiling it where that has not been done.

    Compiled files are kept under a digest of the model's files. They hold numbers and graphs of known operators, no
    code; a damaged one is made again. With them at hand neither Keras nor scikit-learn is imported, but for members
    that have no faster form.

    Args:
        folder: A saved model.
        cache: Where compiled files are kept; by default the folder that the environment variable ``CROSSPROP_CACHE``
            names, or ``.crossprop/compiled`` under the current one.
        threads: Threads that one prediction uses at most; by default one for each core.
        compile_apart: Has another process compile the model into the cache, where that has not been done.

    Raises:
        ModelFormatError: The folder is no saved model, of another format, or damaged.
        StoreError: The cache cannot be written.
        DataError: The number of threads is less than one.
    """
    folder = Path(folder)
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}, but a prediction needs at least one. Give 1 or more.")
    place = entry(folder, build, cache, compile_apart)
    info = read_info(folder)
    try:
        return CompiledPredictor(folder, info, place, threads or available_threads())
    except CrosspropError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(
            f"{place}, made from {folder}, cannot be read: {error!r}. Delete it; it is made again."
        ) from error


def _checked(fractions: np.ndarray) -> np.ndarray:
    fractions = np.asarray(fractions, dtype=np.float64)
    if fractions.ndim != 2 or fractions.shape[1] != len(ELEMENTS):
        raise ShapeMismatchError(
            f"fractions have shape {fractions.shape}; (n_samples, {len(ELEMENTS)}) is needed."
        )
    return fractions


def _tasks(member: Member, features: np.ndarray, into: np.ndarray) -> list[Task]:
    """A member's answers for all rows, in pieces that keep a core busy and stay in its cache."""
    pieces = [slice(start, start + member.rows) for start in range(0, len(features), member.rows)]
    return [partial(_answer, member, features[rows], into[rows]) for rows in pieces]


def _answer(member: Member, features: np.ndarray, into: np.ndarray) -> None:
    into[:] = member.predict(features)


def _answer_together(
    members: list[Member], features: np.ndarray, answers: np.ndarray, places: list[int]
) -> None:
    answers[places] = predict_members(members, features)
