"""The backend, the threads and the GPU memory of a process."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def process_environment(backend: str, threads: int | None = None) -> dict[str, str]:
    """Variables that have to stand in an environment before NumPy (``threads``) or a backend is imported in it."""
    return {
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "GRPC_VERBOSITY": "NONE",
        "ABSL_MIN_LOG_LEVEL": "3",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        **(dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {}),
    }


def configure(backend: str, threads: int) -> None:
    """Prepare this process for ``tensorflow`` or ``jax``: to be called once, before the first network is built."""
    os.environ.update(process_environment(backend))  # NumPy is imported already
    if backend == "tensorflow":
        with _quiet():  # its libraries announce themselves on stderr before any log level counts
            import tensorflow as tf

            tf.config.list_physical_devices()
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            pass  # the backend has started already: a library user's own settings stay
        tf.get_logger().setLevel("ERROR")


def precision_of(wanted: str) -> str:
    """The precision itself; for ``auto``, ``mixed_bfloat16`` where the processor has instructions for it."""
    if wanted != "auto":
        return wanted
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    return "mixed_bfloat16" if flags & {"amx_bf16", "avx512_bf16"} else "float32"


@contextmanager
def _quiet() -> Iterator[None]:
    """Send what libraries write to the file descriptor of stderr nowhere, for a while."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak_memory() -> int:
    """Peak resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
