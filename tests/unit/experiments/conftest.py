"""The rehearsal of one target, for tests of the scheduler, and tasks for those of executors."""

import pytest
from made import Rehearsal


@pytest.fixture
def task(tmp_path):
    """Makes a task for a worker."""
    return lambda name, what="answer", **more: {"folder": str(tmp_path), "name": name, "what": what, **more}


@pytest.fixture
def rehearsal(request, tmp_path, write_target, tiny_params):
    """Makes rehearsals of the module's STUDY with its ERRORS in one folder: they share the stored tasks."""
    write_target(tmp_path, n=30)

    def build(errors=request.module.ERRORS, **study):
        return Rehearsal(tiny_params(**(request.module.STUDY | study)), tmp_path, errors)

    return build
