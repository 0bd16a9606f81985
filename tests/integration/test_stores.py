"""A study on a team's stores, which fail in the middle of everything: nothing is lost, and messages are true."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
from functools import partial

import optuna
import pytest
import requests
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from stores import MISSING, SECRETS, Team, answers, free_ports
from studies import NO_NETWORKS, QUICK, ROOT, project, results, tracked
from waiting import PATIENCE, until

from crossprop.errors import StoreOutOfReachError, TrackingError
from crossprop.experiments.targets import run_targets
from crossprop.tracking.promotion import PENDING_TAG, promote
from crossprop.tracking.provenance import open_study_context
from crossprop.tracking.registry import find_model, find_version, predictor_folder
from crossprop.tracking.runs import record_cell
from crossprop.tracking.store import open_client, prepare_store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(bool(MISSING), reason=f"a team's stores are tested where there are {MISSING}"),
]
NAME = "tiny.slme"
NO_DATABASE, NO_SERVER = "its database or object store does not", "nothing answers there"
CLI, DVC = ("-m", "crossprop.cli"), ("-m", "dvc")


@pytest.fixture(scope="module")
def team():
    made = Team()
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def uri(team, monkeypatch):
    settings = {"TRACKING_URI": team.uri, "HTTP_REQUEST_TIMEOUT": "20", "HTTP_REQUEST_MAX_RETRIES": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    return team.uri


@pytest.fixture(scope="module")
def params(tiny_params):
    return tiny_params(**NO_NETWORKS, compute=QUICK)


@pytest.fixture(scope="module")
def paths(tmp_path_factory, params, write_target):
    return project(tmp_path_factory.mktemp("checkout"), params, write_target)


class Failing:
    """Loses a server with the first cell; the server is started again once it was missed."""

    def __init__(self, context, server):
        self.context, self.server, self.cells = context, server, 0

    def __call__(self, outcome):
        self.cells += 1
        if self.cells == 1:
            self.server.kill()
        try:
            return record_cell(self.context, outcome)
        except StoreOutOfReachError:
            if self.server.process is None:
                self.server.start()
            raise


def start(folder, *words, **environment):
    """A Python command as it is typed in a folder."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(command, cwd=folder, env=os.environ | environment, **pipes)


def run(folder, *words, **environment):
    """Status and output of a command."""
    process = start(folder, *words, **environment)
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def cut_off(server, process, moment):
    """Kill a server at a moment of a command, start it again when the command has ended; its status and output."""
    until(lambda: moment() or process.poll() is not None)
    server.kill()
    output, _ = process.communicate(timeout=PATIENCE)
    server.start()
    return process.returncode, output


def test_every_cell_is_recorded_once_and_every_winner_registered_once(team, uri, params, paths, write_target):
    client = open_client(prepare_store(uri))
    register = ROOT / "pipelines" / "register.py"
    for version, (server, message) in enumerate(((team.postgres, NO_DATABASE), (team.mlflow, NO_SERVER)), 1):
        write_target(paths.root, seed=version)
        lines = []
        recorder = lambda hashes, s=server: Failing(open_study_context(params, paths, hashes), s)  # noqa: E731
        outcome = run_targets(params, ["slme"], paths, recorder, lines.append)["slme"]
        assert any(message in line for line in lines), lines
        assert any("The tracking store answers again" in line for line in lines)
        cells = sorted(o.result.cell for o in outcome.outcomes)
        runs = [run for run in tracked(uri) if run.data.tags["crossprop.cell"] in cells]
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert sorted(run.data.tags["crossprop.cell"] for run in runs) == cells
        assert {entry["run_id"] for entry in results(paths, "runs.json")} == {run.info.run_id for run in runs}
        for run_id in (run.info.run_id for run in runs):
            assert {"configuration.yaml", "environment.json"} <= {f.path for f in client.list_artifacts(run_id)}

        number = client.get_experiment_by_name("tiny/slme").experiment_id
        models = partial(client.search_logged_models, [number])
        begun = lambda v=version: len(models()) == v  # noqa: B023, E731
        status, said = cut_off(server, start(paths.root, register), begun)
        assert (status, message in said) == (1, True), said
        for _ in range(2):  # what was registered is not registered again
            status, said = run(paths.root, register)
            assert (status, f"{NAME} version {version}: " in said) == (0, True), said
        assert [v.version for v in find_model(uri, NAME).versions] == [str(n) for n in range(version, 0, -1)]
        assert [model.status for model in models()] == ["READY"] * version
        assert predictor_folder(uri, find_version(uri, NAME, alias="challenger"), paths.root / "cache").is_dir()


def test_promotion_and_rollback_are_whole_or_did_not_happen_and_the_service_answers_all_the_time(team, uri, paths):
    (port,) = free_ports(1)
    url, asked, ended = f"http://127.0.0.1:{port}", [], threading.Event()

    def ask():
        body = {"formulas": ["PbTe"], "properties": ["slme"]}
        while not ended.wait(0.1):
            answer = requests.post(f"{url}/v1/predict", json=body, timeout=PATIENCE)
            asked.append((answer.status_code, answer.json().get("models", {}).get("slme", {}).get("version")))

    def pending():
        return team.sql(f"SELECT 1 FROM registered_model_tags WHERE key = '{PENDING_TAG}'", "mlflow")

    def champion():
        return find_model(uri, NAME).aliases.get("champion")

    promote(uri, NAME, version=1, force_reason="the first")
    serve = [sys.executable, *CLI, "serve", "--port", str(port), "--cache", str(paths.root / "cache")]
    with (paths.root / "service.log").open("w") as log:
        service = subprocess.Popen(serve, cwd=paths.root, stdout=log, stderr=log)
    asking = threading.Thread(target=ask)
    try:
        until(lambda: answers(f"{url}/readyz") or service.poll() is not None)
        asking.start()
        for server, message, former, version, command in (
            (team.postgres, NO_DATABASE, "1", "2", ("promote", NAME, "--version", 2, "--force", "better")),
            (team.mlflow, NO_SERVER, "2", "1", ("rollback", NAME, "--reason", "worse")),
        ):
            status, said = cut_off(server, start(paths.root, *CLI, *command), pending)
            assert (status, message in said) == (1, True), said
            assert champion() in (former, version)
            status, said = run(paths.root, *CLI, *command)
            assert re.search(r"was interrupted; it was (completed|taken back)", said), said
            assert (status, champion(), pending()) == (0, version, []), said
            until(lambda v=version: asked[-1] == (200, v))
    finally:
        ended.set()
        service.terminate()
        service.wait(PATIENCE)
    asking.join()
    assert {status for status, _ in asked} == {200}


def test_messages_name_what_does_not_answer(team, uri, paths):
    database = team.address("mlflow")
    status, said = run(paths.root, *CLI, "models", MLFLOW_TRACKING_URI=database)
    assert (status, "slme" in said) == (0, True), said
    with pytest.raises(TrackingError, match=r"Write postgresql\+psycopg2://"):
        prepare_store(database.replace("+psycopg2", ""))
    team.postgres.kill()
    with pytest.raises(StoreOutOfReachError, match=NO_SERVER) as refused:
        prepare_store(database)
    team.postgres.start()
    assert SECRETS["POSTGRES_PASSWORD"] not in str(refused.value)
    prepare_store(database)
    info = find_version(uri, NAME)
    team.objects.kill()
    with pytest.raises(StoreOutOfReachError, match=NO_DATABASE):
        predictor_folder(uri, info, paths.root / "elsewhere")
    team.objects.start()
    assert predictor_folder(uri, info, paths.root / "elsewhere").is_dir()


def test_clients_of_mlflow_need_no_way_to_the_object_store(team, uri, tmp_path):
    """The variables of docker/README.md: without them MLflow sends clients to a name that only the server knows."""
    page = (ROOT / "docker" / "README.md").read_text()
    (line,) = re.findall(r"^export (MLFLOW_ENABLE_PROXY_.*)$", page, re.MULTILINE)
    plain = team.plain | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "-u", f"models:/{NAME}@champion"]
    options = {"check": True, "capture_output": True, "timeout": PATIENCE}
    variables = dict(word.split("=") for word in line.split())
    subprocess.run([*command, "-d", tmp_path / "with"], env=plain | variables, **options)
    assert list(tmp_path.rglob("model.json"))
    with pytest.raises(subprocess.SubprocessError):  # it is refused, or asks for that name again and again
        subprocess.run([*command, "-d", tmp_path / "without"], env=plain, **options | {"timeout": 30})
    assert not list((tmp_path / "without").rglob("model.json"))


def test_trials_are_copied_to_the_team_as_often_as_one_likes(team, paths):
    """The Python block of docs/how-to/team.md, cut off by an outage and run again."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/team.md").read_text(), re.DOTALL)
    address = team.address("optuna")
    code = re.sub(r'"postgresql\S+optuna"', repr(address), textwrap.dedent(block))
    logs = paths.root.glob(".crossprop/optuna/*/*.log")
    journals = [JournalStorage(JournalFileBackend(str(path))) for path in logs]

    def trials(*storages):
        found = [summary for storage in storages for summary in optuna.get_all_study_summaries(storage)]
        return {summary.study_name: summary.n_trials for summary in found}

    cut_off(team.postgres, start(paths.root, "-c", code), lambda: team.sql("SELECT 1 FROM trials", "optuna"))
    for _ in range(2):
        status, said = run(paths.root, "-c", code)
        assert (status, trials(RDBStorage(address))) == (0, trials(*journals)), said
    assert trials(*journals)


def test_remote_of_the_docs_keeps_every_file(team, tmp_path, monkeypatch):
    """The commands of docs/remotes.md for an S3-compatible store, which is killed in the middle of push and pull."""
    page = (ROOT / "docs" / "remotes.md").read_text().split("## S3")[1].split("```bash\n")[1].split("```")[0]
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    dvc, data, cache = partial(run, tmp_path, *DVC), tmp_path / "data", tmp_path / ".dvc" / "cache"
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    commands = [shlex.split(os.path.expandvars(line), comments=True) for line in page.splitlines()]
    for words in (["dvc", "init", "--quiet"], *commands):
        status, said = dvc(*(word.replace("http://127.0.0.1:8333", team.s3) for word in words[1:]))
        assert status == 0, said
    content = {f"{n:03}": os.urandom(200_000) for n in range(60)}
    data.mkdir()
    for name, written in content.items():
        (data / name).write_bytes(written)
    assert dvc("add", "data")[0] == 0

    def stored():
        return team.s3_client.list_objects_v2(Bucket="dvc").get("Contents", [])

    for word, begun in (("push", stored), ("pull", cache.exists)):
        process = start(tmp_path, *DVC, word)
        until(lambda b=begun, p=process: b() or p.poll() is not None)
        assert process.poll() is None, process.communicate()
        cut_off(team.objects, process, begun)
        assert dvc(word)[0] == 0
        assert "in sync" in dvc("status", "--cloud")[1]
        assert {path.name: path.read_bytes() for path in data.iterdir()} == content
        shutil.rmtree(data)
        shutil.rmtree(cache)
    damaged = max(stored(), key=lambda entry: entry["Size"])["Key"]
    team.s3_client.put_object(Bucket="dvc", Key=damaged, Body=b"damaged")
    status, said = dvc("pull")
    assert (status, "Checkout failed" in said) == (1, True), said
