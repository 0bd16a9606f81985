"""The container files: what can be held true of them without an engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE_TEXT = (DOCKER / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES = COMPOSE["services"]
DOCKERFILES = sorted(DOCKER.glob("Dockerfile.*"))
OWN_IMAGES = {"crossprop-server": "Dockerfile.server", "crossprop-service": "Dockerfile.service"}
OPTIONAL = {"CROSSPROP_API_KEYS"}
SECRETS = {"POSTGRES_PASSWORD", "OBJECT_STORE_ACCESS_KEY", "OBJECT_STORE_SECRET_KEY"}
EXAMPLE = dict(
    line.split("=", 1)
    for line in (DOCKER / ".env.example").read_text().splitlines()
    if line and not line.startswith("#")
)

by_service = pytest.mark.parametrize("service", SERVICES)
by_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def _instructions(dockerfile: Path, name: str) -> list[str]:
    text = dockerfile.read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def _plugin_exists() -> bool:
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    )


def _pinned(image: str) -> bool:
    return re.search(r":v?\d+\.\d+", image) is not None


def test_the_stack_has_the_stores_and_the_servers():
    assert set(SERVICES) == {
        "postgres",
        "object-store",
        "prepare-stores",
        "mlflow",
        "optuna-dashboard",
        "service",
    }


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_compose_refuses_to_start_without_a_secret(secret):
    uses = re.findall(rf"\${{{secret}(.*?)}}", COMPOSE_TEXT)
    assert uses
    assert all(use.startswith(":?") for use in uses)


def test_example_names_every_variable_and_holds_no_secret():
    assert set(re.findall(r"\${(\w+)", COMPOSE_TEXT)) == set(EXAMPLE)
    assert {name for name, value in EXAMPLE.items() if not value} == SECRETS | OPTIONAL


def test_filled_in_secrets_cannot_be_committed():
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "docker/.env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


@by_service
def test_image_is_ours_or_pinned(service):
    image = SERVICES[service]["image"]
    assert image in OWN_IMAGES or _pinned(image)


@pytest.mark.parametrize("image", OWN_IMAGES)
def test_our_images_are_built_once_and_never_pulled(image):
    ours = [settings for settings in SERVICES.values() if settings["image"] == image]
    built = [settings["build"] for settings in ours if "build" in settings]
    assert [(DOCKER / build["context"] / build["dockerfile"]).resolve() for build in built] == [
        DOCKER / OWN_IMAGES[image]
    ]
    assert all(settings["pull_policy"] == "never" for settings in ours if "build" not in settings)


@by_service
def test_no_service_runs_as_root(service):
    settings = SERVICES[service]
    assert settings["image"] in OWN_IMAGES or settings["user"] not in ("root", "0")
    assert settings["security_opt"] == ["no-new-privileges:true"]


@by_service
def test_ports_are_open_on_the_loopback_only(service):
    for port in SERVICES[service].get("ports", []):
        default = re.sub(r"\${\w+:-(.*?)}", r"\1", port)
        assert default.startswith("127.0.0.1:")


def test_dashboard_stays_on_the_loopback_whatever_the_environment_says():
    (port,) = SERVICES["optuna-dashboard"]["ports"]
    assert port.startswith("127.0.0.1:")


@by_service
def test_dependencies_can_be_met(service):
    for name, requirement in SERVICES[service].get("depends_on", {}).items():
        if requirement["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[name]
        else:
            assert requirement["condition"] == "service_completed_successfully"
            assert "restart" not in SERVICES[name]


@by_service
def test_what_keeps_running_is_watched(service):
    settings = SERVICES[service]
    assert ("healthcheck" in settings) == ("restart" in settings)
    for port in settings.get("ports", []):
        watched = " ".join(settings["healthcheck"]["test"])
        assert service == "postgres" or f":{port.rsplit(':', 1)[1]}/" in watched


def test_our_variables_in_the_stack_are_read_by_the_code():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"CROSSPROP_[A-Z_]+", COMPOSE_TEXT)) | {"MLFLOW_TRACKING_URI"}
    assert all(f'"{name}"' in code for name in named)


def test_tracking_server_takes_the_options_that_it_is_given():
    from mlflow.cli import cli

    known = {name for parameter in cli.commands["server"].params for name in parameter.opts}
    given = [word.partition("=")[0] for word in SERVICES["mlflow"]["command"] if word.startswith("--")]
    assert set(given) <= known


@by_service
def test_mounted_files_and_volumes_exist(service):
    for volume in SERVICES[service].get("volumes", []):
        source = volume.split(":")[0]
        assert (DOCKER / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]


def test_mlflow_server_guards_hosts_model_sources_and_passwords():
    settings = SERVICES["mlflow"]
    assert any(word.startswith("--allowed-hosts=mlflow:5000,") for word in settings["command"])
    source = re.compile(settings["environment"]["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"])
    assert source.match("models:/m-1")
    assert not source.match("s3://elsewhere/model")
    assert "PASSWORD" not in " ".join(settings["command"])


@by_dockerfile
def test_dockerfile_starts_from_a_pinned_base_and_ends_as_an_ordinary_user(dockerfile):
    stages = _instructions(dockerfile, "FROM")
    own = {stage.split(" AS ")[1] for stage in stages if " AS " in stage}
    for stage in stages:
        base = stage.split(" AS ")[0]
        assert _pinned(base) or base in own or base == "dependencies-${VARIANT}"
    assert _instructions(dockerfile, "USER") == ["crossprop"]


@by_dockerfile
def test_dockerfile_installs_by_hash_and_copies_what_the_context_holds(dockerfile):
    installs = [line for line in _instructions(dockerfile, "RUN") if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for copy in _instructions(dockerfile, "COPY"):
        for source in shlex.split(copy)[:-1]:
            assert (ROOT / source).exists()
            assert any(Path(source).match(pattern) for pattern in allowed), source


def test_service_runs_without_privileges_on_a_read_only_root():
    settings = SERVICES["service"]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    (cache,) = settings["volumes"]
    (command,) = _instructions(DOCKER / "Dockerfile.service", "CMD")[-1:]
    assert cache.split(":")[1] in json.loads(command), "what is written goes to the volume"
    assert settings["tmpfs"] == ["/tmp"]


def test_service_finds_the_registry_by_a_name_that_the_registry_answers_to():
    address = SERVICES["service"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    (hosts,) = [word for word in SERVICES["mlflow"]["command"] if word.startswith("--allowed-hosts=")]
    assert address in hosts.removeprefix("--allowed-hosts=").split(",")


def test_service_image_runs_a_command_that_exists_and_watches_its_port():
    (command,) = _instructions(DOCKER / "Dockerfile.service", "CMD")[-1:]
    words = json.loads(command)
    assert words[:4] == ["python", "-m", "crossprop.cli", "serve"]
    finished = subprocess.run(
        [sys.executable, *words[1:4], "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert all(word in finished.stdout for word in words if word.startswith("--"))
    port = words[words.index("--port") + 1]
    (health,) = _instructions(DOCKER / "Dockerfile.service", "HEALTHCHECK")
    assert f":{port}/healthz" in health
    assert _instructions(DOCKER / "Dockerfile.service", "EXPOSE") == [port]
    assert SERVICES["service"]["ports"][0].endswith(f":{port}")
    assert f":{port}/healthz" in " ".join(SERVICES["service"]["healthcheck"]["test"])


def test_training_image_has_a_cpu_and_a_gpu_variant():
    stages = {stage.split(" AS ")[1] for stage in _instructions(DOCKER / "Dockerfile.train", "FROM")}
    assert {"dependencies-cpu", "dependencies-gpu"} <= stages


@pytest.mark.skipif(not _plugin_exists(), reason="the docker compose plugin is not installed")
def test_docker_compose_accepts_the_file():
    filled = {name: value or "secret" for name, value in EXAMPLE.items()}
    command = ["docker", "compose", "-f", "docker/compose.yaml", "config", "--quiet"]
    finished = subprocess.run(
        command, cwd=ROOT, env={**filled, "PATH": "/usr/local/bin:/usr/bin:/bin"}, check=False
    )
    assert finished.returncode == 0
