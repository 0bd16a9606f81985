"""Installation and entry points: what is promised, held against the files that keep it."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tool_modules import load_script

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
SYSTEMS = [
    {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": system}
    for version in ("3.11", "3.12", "3.13")
    for system in ("linux", "darwin")
]
LOCKS: dict[str, tuple[str, tuple[str, ...]]] = load_script("tools/lock.py").LOCKS


def _entries(lock: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes; a line that is neither fails the parse."""
    logical_lines = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    return [
        (Requirement(line.split("--hash")[0]), re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line))
        for line in logical_lines
    ]


def _pins(lock: str, system: dict[str, str]) -> dict[str, str]:
    """Name to version of what a lock installs on one system."""
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in _entries(lock)
        if requirement.marker is None or requirement.marker.evaluate(system)
    }


def _declared(lock: str) -> list[Requirement]:
    source, extras = LOCKS[lock]
    if source != "pyproject.toml":
        lines = (ROOT / source).read_text().splitlines()
        return [Requirement(line) for line in lines if line and not line.startswith("#")]
    project = PYPROJECT["project"]
    further = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in project["dependencies"] + further]


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_lock_in_the_tree_is_one_that_the_tool_writes():
    found = [*ROOT.glob("requirements*.lock"), *ROOT.glob("docker/requirements*.lock")]
    in_tree = {str(path.relative_to(ROOT)) for path in found}
    assert in_tree == set(LOCKS)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_every_package_by_version_and_hash_and_names_no_address(lock):
    assert "://" not in (ROOT / lock).read_text()
    for requirement, hashes in _entries(lock):
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes, requirement


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: f"{s['sys_platform']}-{s['python_version']}")
def test_lock_satisfies_what_is_declared(lock, system):
    pins = _pins(lock, system)
    for requirement in _declared(lock):
        if requirement.marker is None or requirement.marker.evaluate(system):
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("lock", [lock for lock in LOCKS if lock.startswith("requirements-")])
def test_an_extra_never_changes_what_the_core_runs_on(lock):
    core, extended = _pins("requirements.lock", SYSTEMS[0]), _pins(lock, SYSTEMS[0])
    assert {name: extended.get(name) for name in core} == core


def test_core_lock_can_build_the_project_without_isolation():
    backend = Requirement(PYPROJECT["build-system"]["requires"][0])
    assert backend.specifier.contains(_pins("requirements.lock", SYSTEMS[0])[backend.name])


def test_every_imported_package_is_declared():
    extras = PYPROJECT["project"]["optional-dependencies"]
    lines = PYPROJECT["project"]["dependencies"] + [
        line for extra, group in extras.items() if extra != "dev" for line in group
    ]
    declared = {canonicalize_name(Requirement(line).name) for line in lines} | {"crossprop"}
    distributions = importlib.metadata.packages_distributions()
    undeclared = {}
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("pipelines/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names):
                owners = {canonicalize_name(owner) for owner in distributions.get(name, [name])}
                if not owners & declared:
                    undeclared[str(path.relative_to(ROOT))] = name
    assert not undeclared


def test_importing_the_package_or_asking_for_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['crossprop', '--help']\n"
        "from crossprop.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'optuna', 'matplotlib', 'pymatgen', 'matminer'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.rstrip().endswith("loaded: []")


@pytest.mark.parametrize(
    ("contract", "allowed"),
    [
        ("Only tracking and inference import MLflow", {"tracking", "inference"}),
        ("Only models and training import Keras", {"models", "training"}),
    ],
)
def test_import_contract_covers_every_module(contract, allowed):
    rules = {rule["name"]: rule for rule in PYPROJECT["tool"]["importlinter"]["contracts"]}
    modules = {path.stem for path in (ROOT / "src" / "crossprop").iterdir() if not path.name.startswith("__")}
    assert set(rules[contract]["source_modules"]) == {f"crossprop.{name}" for name in modules - allowed}


def test_slow_gpu_and_network_tests_are_deselected_by_default():
    options = PYPROJECT["tool"]["pytest"]["ini_options"]
    names = [marker.split(":")[0] for marker in options["markers"]]
    assert options["addopts"][options["addopts"].index("-m") + 1] == " and ".join(
        f"not {name}" for name in names
    )


@pytest.mark.parametrize(
    "target", ["help", "setup", "setup-dev", "repro", "test", "test-slow", "ui", "bench", "clean"]
)
def test_make_target_exists_and_is_in_the_help(target):
    assert _make("--dry-run", target).returncode == 0
    assert re.search(rf"make {target} ", _make().stdout)


def test_make_test_checks_style_types_and_layers_before_the_tests():
    steps = re.findall(
        r"bin/(ruff check|ruff format|mypy|lint-imports|python -m pytest)", _make("-n", "test").stdout
    )
    assert steps == ["ruff check", "ruff format", "mypy", "lint-imports", "python -m pytest"]


def test_second_setup_has_nothing_to_do(tmp_path):
    assert "tools/setup.sh requirements.lock" in _make("--dry-run", "setup", f"VENV={tmp_path}").stdout
    (tmp_path / ".installed-requirements.lock").touch()
    assert "Nothing to be done" in _make("setup", f"VENV={tmp_path}").stdout


def test_a_changed_lock_is_installed_again(tmp_path):
    stamp = tmp_path / ".installed-requirements.lock"
    stamp.touch()
    older = (ROOT / "requirements.lock").stat().st_mtime - 1
    os.utime(stamp, (older, older))
    assert "tools/setup.sh requirements.lock" in _make("--dry-run", "setup", f"VENV={tmp_path}").stdout


def test_setup_refuses_a_python_that_is_too_old_and_says_which_it_needs(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *supported*|*version_info*) exit 1;; esac\necho 3.9.2\n')
    old.chmod(0o755)
    finished = _make("setup", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}")
    assert finished.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in finished.stderr
    assert "(3.9.2)" in finished.stderr
    assert not (tmp_path / "venv").exists()


def test_setup_refuses_an_environment_it_did_not_expect_and_leaves_it_alone(tmp_path):
    (tmp_path / "bin").mkdir()
    finished = _make("setup", f"VENV={tmp_path}")
    assert finished.returncode != 0
    assert f"Remove it (rm -rf {tmp_path})" in finished.stderr
    assert (tmp_path / "bin").exists()


def test_continuous_integration_runs_make_test_with_the_mirror_beside_the_checkout(tmp_path):
    ci = tmp_path / "checkout" / ".ci"
    ci.mkdir(parents=True)
    (tmp_path / "shared" / "mirror").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", ci)
    # A browser is there, so that none is installed.
    for name, line in (("make", 'printf "%s\\n" "$PWD" "$CROSSPROP_MIRROR" "$@"'), ("chromium", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    printed = subprocess.run([ci / "run"], env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [str(tmp_path / "checkout"), str(tmp_path / "shared" / "mirror"), "test"]


@pytest.mark.parametrize("name", MLPROJECT["entry_points"])
def test_mlproject_command_uses_exactly_its_typed_parameters(name):
    entry = MLPROJECT["entry_points"][name]
    assert set(re.findall(r"{(\w+)}", entry["command"])) == set(entry["parameters"])
    assert {parameter["type"] for parameter in entry["parameters"].values()} <= {
        "string",
        "float",
        "path",
        "uri",
    }


@pytest.mark.parametrize("name", sorted({*MLPROJECT["entry_points"]} - {"main"}))
def test_mlproject_script_takes_the_options_it_is_called_with(name):
    words = shlex.split(MLPROJECT["entry_points"][name]["command"])
    script = next(word for word in words if word.endswith(".py"))
    printed = subprocess.run(
        [sys.executable, ROOT / script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert printed.returncode == 0, printed.stderr
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", printed.stdout), f"{script} does not know {option}"


def test_mlproject_steps_start_their_own_runs():
    command = MLPROJECT["entry_points"]["main"]["command"]
    assert "-u MLFLOW_RUN_ID" in command
    assert "-u MLFLOW_EXPERIMENT_ID" in command


def test_python_env_uses_the_core_lock_on_a_supported_python():
    environment = yaml.safe_load((ROOT / MLPROJECT["python_env"]).read_text())
    assert environment["dependencies"] == ["-r requirements.lock"]
    assert Requirement(f"python{PYPROJECT['project']['requires-python']}").specifier.contains(
        environment["python"]
    )


def test_dvc_calls_nobody_and_composes_configurations():
    config = (ROOT / ".dvc" / "config").read_text()
    for line in ("analytics = false", "autostage = false", "check_update = false", "enabled = true"):
        assert line in config
    assert "remote" not in config  # addresses belong to config.local, which git ignores


def test_a_damaged_object_on_a_folder_remote_is_refused(tmp_path):
    """The commands of docs/remotes.md do what it says of them."""
    dvc = [sys.executable, "-m", "dvc"]
    project, store = tmp_path / "project", tmp_path / "store"
    project.mkdir()

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        quiet = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        return subprocess.run(
            [*map(str, command)], cwd=project, env=quiet, capture_output=True, text=True, check=False
        )

    template = (ROOT / "docs" / "remotes.md").read_text().split("```bash\n")[1].split("```")[0]
    assert "verify true" in template
    run("git", "init", "--quiet")
    run(*dvc, "init", "--quiet")
    for line in template.replace("/srv/crossprop-store", shlex.quote(str(store))).splitlines():
        configured = run(*dvc, *shlex.split(line, comments=True)[1:])
        assert configured.returncode == 0, configured.stderr
    data = project / "data.txt"
    data.write_text("MoS2\n")
    run(*dvc, "add", data)
    assert run(*dvc, "push").returncode == 0
    (damaged,) = (path for path in store.rglob("*") if path.is_file())
    damaged.chmod(0o644)
    damaged.write_text("MoSe\n")
    damaged.chmod(0o444)  # as DVC left it: without verify it trusts a read-only file
    data.unlink()
    shutil.rmtree(project / ".dvc" / "cache")
    pulled = run(*dvc, "pull")
    assert pulled.returncode != 0
    assert "Checkout failed" in pulled.stderr
    assert not data.exists()
