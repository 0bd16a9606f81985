import os
import subprocess
import sys

import pytest

from crossprop.training.device import THREAD_VARIABLES, configure, process_environment


def test_configuring_sets_the_environment_but_not_the_threads_of_others(monkeypatch):
    for name in process_environment("jax", 1):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "before")
    configure("jax", 2)
    assert os.environ["KERAS_BACKEND"] == "jax"
    assert {os.environ[name] for name in THREAD_VARIABLES} == {"before"}


@pytest.mark.slow
def test_tensorflow_keeps_to_its_threads_and_says_nothing():
    code = (
        "from crossprop.training.device import configure\n"
        "configure('tensorflow', 1)\n"
        "import tensorflow as tf\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads(),"
        " tf.config.threading.get_inter_op_parallelism_threads())"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["1", "1"]
    assert finished.stderr == ""
