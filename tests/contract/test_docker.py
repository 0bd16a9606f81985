"""The container files: what can be held true of them without an engine."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import typer.main
import yaml

from crossprop.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE_TEXT = (DOCKER / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES = COMPOSE["services"]
DOCKERFILES = sorted(DOCKER.glob("Dockerfile.*"))
OWN_IMAGES = {"crossprop-server": "Dockerfile.server", "crossprop-service": "Dockerfile.service"}
OPTIONAL = {"CROSSPROP_API_KEYS"}
SECRETS = {"POSTGRES_PASSWORD", "OBJECT_STORE_ACCESS_KEY", "OBJECT_STORE_SECRET_KEY"}
EXAMPLE = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / ".env.example").read_text(), flags=re.MULTILINE))

by_service = pytest.mark.parametrize("service", SERVICES)
PINNED = re.compile(r":v?\d+\.\d+")


def _instructions(dockerfile, name):
    text = dockerfile.read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def test_compose_needs_every_secret_git_ignores_them_and_the_example_names_every_variable():
    for secret in SECRETS:
        uses = re.findall(rf"\${{{secret}(.*?)}}", COMPOSE_TEXT)
        assert uses
        assert all(use.startswith(":?") for use in uses)
    assert subprocess.run(["git", "check-ignore", "-q", "docker/.env"], cwd=ROOT, check=False).returncode == 0
    assert set(re.findall(r"\${(\w+)", COMPOSE_TEXT)) == set(EXAMPLE)
    assert {name for name, value in EXAMPLE.items() if not value.strip('"')} == SECRETS | OPTIONAL


def test_compose_file_meets_the_compose_specification(tmp_path):
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed: make setup-dev")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(COMPOSE_TEXT.replace("restart:", "restarts:"))
    for path, said in ((DOCKER / "compose.yaml", "ok"), (wrong, "'restarts' was unexpected")):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0, said in done.stdout) == (said == "ok", True), done.stdout


@by_service
def test_image_is_pinned_or_ours_and_runs_without_root_or_new_privileges(service):
    settings = SERVICES[service]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    if settings["image"] not in OWN_IMAGES:
        assert PINNED.search(settings["image"])
        assert settings["user"] not in ("root", "0")
    elif "build" in settings:
        build = settings["build"]
        expected = DOCKER / OWN_IMAGES[settings["image"]]
        assert (DOCKER / build["context"] / build["dockerfile"]).resolve() == expected
    else:
        assert settings["pull_policy"] == "never"


@by_service
def test_ports_are_open_on_the_loopback_and_watched_and_dependencies_can_be_met(service):
    settings = SERVICES[service]
    assert ("healthcheck" in settings) == ("restart" in settings)
    for port in settings.get("ports", []):
        assert re.sub(r"\${\w+:-(.*?)}", r"\1", port).startswith("127.0.0.1:")
        watched = " ".join(settings["healthcheck"]["test"])
        assert service == "postgres" or f":{port.rsplit(':', 1)[1]}/" in watched
    if service == "optuna-dashboard":  # it has no log-in: whatever the environment says
        assert settings["ports"][0].startswith("127.0.0.1:")
    for name, requirement in settings.get("depends_on", {}).items():
        if requirement["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[name]
        else:
            assert requirement["condition"] == "service_completed_successfully"
            assert "restart" not in SERVICES[name]


def test_tracking_server_is_given_options_that_exist_and_guards_hosts_sources_and_passwords():
    from mlflow.cli import cli

    command, environment = SERVICES["mlflow"]["command"], SERVICES["mlflow"]["environment"]
    known = {name for parameter in cli.commands["server"].params for name in parameter.opts}
    assert {word.partition("=")[0] for word in command if word.startswith("--")} <= known
    assert "PASSWORD" not in " ".join(command)
    (hosts,) = [word for word in command if word.startswith("--allowed-hosts=")]
    service = SERVICES["service"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert service in hosts.removeprefix("--allowed-hosts=").split(",")
    source = re.compile(environment["MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"])
    assert source.match("models:/m-1")
    assert not source.match("s3://elsewhere/model")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfile_pins_base_and_packages_copies_what_the_context_holds_and_ends_as_a_user(dockerfile):
    (base,) = _instructions(dockerfile, "FROM")
    assert PINNED.search(base)
    assert _instructions(dockerfile, "USER") == ["crossprop"]
    runs = _instructions(dockerfile, "RUN")
    installs = [line for line in runs if "install_lock.sh" in line or "pip" in line]
    assert installs
    hashed = "--require-hashes --only-binary :all:"  # install_lock.sh builds by hash what is source only
    assert all("install_lock.sh" in line or hashed in line for line in installs)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for copy in _instructions(dockerfile, "COPY"):
        for source in shlex.split(copy)[:-1]:
            assert (ROOT / source).exists()
            assert any(Path(source).match(pattern) for pattern in allowed), source


def test_service_image_holds_what_the_service_imports_and_no_tensorflow():
    options = {"include_external_packages": True, "exclude_type_checking_imports": True}
    graph = grimp.build_graph("crossprop", cache_dir=None, **options)
    todo, seen = {module for module in graph.modules if module.startswith("crossprop.service")}, set()
    while todo:
        module = todo.pop()
        seen.add(module)
        if module.startswith("crossprop."):
            todo |= graph.find_modules_directly_imported_by(module) - seen
    outside = {name for name in seen if not name.startswith("crossprop")} - set(sys.stdlib_module_names)
    lock = (DOCKER / "requirements-service.lock").read_text()
    pinned = re.findall(r"^([\w-]+)==", lock, flags=re.MULTILINE)
    assert {name.replace("_", "-") for name in outside} - {"keras"} <= set(pinned)  # keras: training only
    assert not {"keras", "tensorflow", "dvc"} & set(pinned)


def test_service_image_runs_an_existing_command_on_its_port_without_privileges():
    image, settings = DOCKER / "Dockerfile.service", SERVICES["service"]
    words = json.loads(_instructions(image, "CMD")[-1])
    serve = typer.main.get_command(app).commands[words[words.index("crossprop.cli") + 1]]
    hosts = ("service", "${SERVICE_ALLOWED_HOST:-localhost}")
    assert settings["command"] == words + [f"--allowed-host={name}" for name in hosts]
    options = {name for parameter in serve.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    port = words[words.index("--port") + 1]
    assert _instructions(image, "EXPOSE") == [port]
    for check in (*_instructions(image, "HEALTHCHECK"), " ".join(settings["healthcheck"]["test"])):
        assert f":{port}/healthz" in check
    assert settings["ports"][0].endswith(f":{port}")
    assert (settings["read_only"], settings["cap_drop"], settings["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    (cache,) = settings["volumes"]
    assert cache.split(":")[1] in words, "what is written goes to the volume"
