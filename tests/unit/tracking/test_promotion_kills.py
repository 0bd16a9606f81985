import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import registries
from registries import add_version

from crossprop.tracking import promotion

KILLS = """
import json, os, shutil, sqlite3, sys
from contextlib import closing
sys.path[:0] = {paths!r}
import crossprop.tracking.promotion as p
from mlflow import MlflowClient
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from registries import logged, NAME
p.predict_in_subprocess = logged

def state(path):
    with closing(sqlite3.connect(path)) as c:
        aliases = dict(c.execute("SELECT alias, version FROM registered_model_aliases").fetchall())
        tags = dict(c.execute("SELECT key, value FROM registered_model_tags").fetchall())
        by = dict(c.execute("SELECT version, value FROM model_version_tags WHERE key LIKE '%.by'").fetchall())
    return aliases, tags, by

def child(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException as error:
            print(repr(error)[:500], file=sys.stderr)
            os._exit(9)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def dying(n, act):
    # killed instead of its n-th write; a kill at a read is one after the write before it
    calls = 0
    def counted(method):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == n:
                os._exit(7)
            return method(*args, **kwargs)
        return call
    for name in dir(MlflowClient):
        if name.startswith(("set_", "delete_", "update_")):
            setattr(MlflowClient, name, counted(getattr(MlflowClient, name)))
    act()

template, folder = sys.argv[1:3]

def start(name, **aliases):
    path = os.path.join(folder, name + ".db")
    shutil.copy(template, path)
    with closing(sqlite3.connect(path)) as c:
        for alias, version in aliases.items():
            c.execute("UPDATE registered_model_aliases SET version=? WHERE alias=?", (version, alias))
        c.commit()
    return path

warm = "sqlite:///" + start("warm", champion=1, previous=3)  # what is imported and compiled once
p.promote(warm, NAME, version=2)
for engine in SqlAlchemyStore._engine_map.values():
    engine.dispose()

seen, new = [], 2
for action, previous in (("promotion", 3), ("rollback", 2)):
    for n in (*range(1, 8), *range(9, 60, 4)):  # later writes are tags, one like the other
        path = start(f"{{action}}{{n}}", champion=1, previous=previous)
        uri = f"sqlite:///{{path}}"
        if action == "promotion":
            act = lambda: p.promote(uri, NAME, version=2, who="ann")
        else:
            act = lambda: p.rollback(uri, NAME, who="ann")
        status = child(lambda: dying(n, act))
        aliases, tags, by = state(path)
        assert status in (0, 7), (action, n, status)
        assert aliases["champion"] in (1, new), (action, n, aliases)
        assert aliases["previous"] in (1, 2, 3), (action, n, aliases)
        if status == 0:
            break
        moved = aliases["champion"] == new
        # The next command: a promotion that is repeated completes, anything else settles what was begun.
        again = act if action == "promotion" else (lambda: p._settled(uri, NAME, print))
        assert child(again) == 0, (action, n)
        aliases, tags, by = state(path)
        wanted = (new, 1) if moved or action == "promotion" else (1, previous)
        assert (aliases["champion"], aliases["previous"]) == wanted, (action, n, aliases)
        assert "crossprop.promotion.pending" not in tags, (action, n)
        assert (by.get(new) == "ann") is (wanted == (new, 1)), (action, n, by)
        seen.append((action, n, moved))
    assert n > 5, (action, n)
print(json.dumps(seen))
"""


def test_kill_at_any_step_leaves_the_registry_consistent_and_the_next_command_completes(uri, good, tmp_path):
    add_version(uri, good, alias="champion")
    add_version(uri, good)
    add_version(uri, good, alias="previous")
    folder = tmp_path / "kills"
    folder.mkdir()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    paths = [str(Path(registries.__file__).parent), str(Path(promotion.__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", KILLS.format(paths=paths), str(tmp_path / "mlflow.db"), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    steps = json.loads(done.stdout.splitlines()[-1])
    for action in ("promotion", "rollback"):
        assert {moved for what, _, moved in steps if what == action} == {True, False}
