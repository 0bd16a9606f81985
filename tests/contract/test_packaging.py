"""Installation and entry points: what is promised, held against the files that keep it."""

import ast
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from made_ensembles import fitted, write_ensemble
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tool_modules import load_script

from crossprop.tracking import registration

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
SYSTEMS = [
    {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": system}
    for version in ("3.11", "3.12", "3.13")
    for system in ("linux", "darwin")
]
LOCKS: dict[str, tuple[str, tuple[str, ...]]] = load_script("tools/lock.py").LOCKS


@cache
def _entries(lock):
    """Each requirement of a lock with its hashes; a line that is neither fails the parse."""
    logical_lines = (ROOT / lock).read_text().replace("\\\n", " ").splitlines()
    hashed = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")
    return [(Requirement(line.split("--hash")[0]), hashed.findall(line)) for line in logical_lines]


def _pins(lock, system):
    """Name to version of what a lock installs on one system."""
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement, _ in _entries(lock)
        if requirement.marker is None or requirement.marker.evaluate(system)
    }


def _declared(lock):
    source, extras = LOCKS[lock]
    if source != "pyproject.toml":
        lines = (ROOT / source).read_text().splitlines()
        return [Requirement(line) for line in lines if line and not line.startswith("#")]
    project = PYPROJECT["project"]
    further = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in project["dependencies"] + further]


def _make(*arguments):
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_every_package_by_version_and_hash_and_names_no_address(lock):
    assert "://" not in (ROOT / lock).read_text()
    names = {Path(name).name for name in LOCKS}
    assert {path.name for path in (ROOT / lock).parent.glob("requirements*.lock")} <= names
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
    # builds the project, and what is source only
    backend = Requirement(PYPROJECT["build-system"]["requires"][0])
    assert backend.specifier.contains(core[backend.name])


def test_every_imported_package_is_declared():
    extras = PYPROJECT["project"]["optional-dependencies"]
    further = [line for extra, group in extras.items() if extra != "dev" for line in group]
    lines = PYPROJECT["project"]["dependencies"] + further
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
        "import sys, crossprop.data.inspect, crossprop.data.prepare; from typer.testing import CliRunner\n"
        "from crossprop.cli import app\nfor words in ([], ['serve']):\n"
        "    assert CliRunner().invoke(app, [*words, '--help']).exit_code == 0\n"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'optuna', 'matplotlib', 'pymatgen', 'matminer', 'fastapi', "
        "'uvicorn', 'onnxruntime'}\nprint('loaded:', sorted(heavy & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.rstrip().endswith("loaded: []")


def test_a_second_setup_has_nothing_to_do_until_a_lock_changes(tmp_path):
    assert "tools/setup.sh requirements.lock" in _make("--dry-run", "setup", f"VENV={tmp_path}").stdout
    stamp = tmp_path / ".installed-requirements.lock"
    stamp.touch()
    assert "Nothing to be done" in _make("setup", f"VENV={tmp_path}").stdout
    older = (ROOT / "requirements.lock").stat().st_mtime - 1
    os.utime(stamp, (older, older))
    assert "tools/setup.sh requirements.lock" in _make("--dry-run", "setup", f"VENV={tmp_path}").stdout


def test_a_moved_environment_is_noticed_and_repaired(tmp_path):
    place, scripts = tmp_path / "new" / ".venv", ("dvc", "activate")
    (place / "bin").mkdir(parents=True)
    (place / ".installed-requirements.lock").touch()
    for name in scripts:
        (place / "bin" / name).write_text(f"#!{place}/bin/python\n")
    assert "Nothing to be done" in _make("setup", f"VENV={place}").stdout
    for name in scripts:
        (place / "bin" / name).write_text("#!/old/.venv/bin/python\n")
    python = place / "bin" / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in pip) exit 0;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert f"Repairing {place}, which was made at /old/.venv" in _make("setup", f"VENV={place}").stdout
    for name in scripts:
        assert (place / "bin" / name).read_text() == f"#!{place}/bin/python\n"
    assert "Nothing to be done" in _make("setup", f"VENV={place}").stdout


def test_setup_refuses_a_python_that_is_too_old_and_says_which_it_needs(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *supported*|*version_info*) exit 1;; esac\necho 3.9.2\n')
    old.chmod(0o755)
    finished = _make("setup", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}")
    assert finished.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in finished.stderr
    assert "(3.9.2)" in finished.stderr
    assert not (tmp_path / "venv").exists()


def test_import_contracts_cover_every_module():
    rules = {rule["name"]: rule for rule in PYPROJECT["tool"]["importlinter"]["contracts"]}
    modules = {path.stem for path in (ROOT / "src" / "crossprop").iterdir() if not path.name.startswith("__")}
    for contract, allowed in (
        ("Only tracking and inference import MLflow", {"tracking", "inference"}),
        ("Only models and training import Keras", {"models", "training"}),
    ):
        assert set(rules[contract]["source_modules"]) == {f"crossprop.{name}" for name in modules - allowed}


@pytest.mark.parametrize("name", MLPROJECT["entry_points"])
def test_mlproject_command_uses_its_parameters_and_a_script_takes_them(name):
    entry = MLPROJECT["entry_points"][name]
    assert set(re.findall(r"{(\w+)}", entry["command"])) == set(entry["parameters"])
    types = {parameter["type"] for parameter in entry["parameters"].values()}
    assert types <= {"string", "float", "path", "uri"}
    words = shlex.split(entry["command"])
    if name == "main":  # its steps start runs of their own
        assert {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"} <= set(words)
        return
    script = (ROOT / next(word for word in words if word.endswith(".py"))).read_text()
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in script, f"{name} is called with {option}"


def test_dvc_and_mlflow_projects_call_nobody_and_use_the_core_lock():
    config = (ROOT / ".dvc" / "config").read_text()
    for line in ("analytics = false", "autostage = false", "check_update = false", "enabled = true"):
        assert line in config
    assert "remote" not in config  # addresses belong to config.local, which git ignores
    environment = yaml.safe_load((ROOT / MLPROJECT["python_env"]).read_text())
    assert environment["dependencies"] == ["-r requirements.lock"]
    supported = Requirement(f"python{PYPROJECT['project']['requires-python']}")
    assert supported.specifier.contains(environment["python"])


def test_a_damaged_object_on_a_folder_remote_is_refused(tmp_path):
    """The commands of docs/remotes.md do what it says of them."""
    dvc = [sys.executable, "-m", "dvc"]
    project, store = tmp_path / "project", tmp_path / "store"
    project.mkdir()

    def run(*command):
        words, quiet = [*map(str, command)], {**os.environ, "DVC_NO_ANALYTICS": "1"}
        return subprocess.run(words, cwd=project, env=quiet, capture_output=True, text=True, check=False)

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


_LOADS = """
import sys

class Blocked:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked)
import crossprop.inference.pyfunc
from crossprop.data.compositions import fraction_matrix
from crossprop.models.saved import load_predictor

load_predictor(sys.argv[1]).predict(fraction_matrix(["PbTe"]))
"""


@pytest.mark.parametrize(
    ("kind", "representation", "method"),
    [("elemnet", "elemental_fractions", "finetune"), ("extra_trees", "combined_sources", "boost_sources")],
)
def test_a_registered_model_predicts_with_what_its_requirements_bring(
    kind, representation, method, tmp_path, tensorflow
):
    write_ensemble(tmp_path / "model", [fitted(kind, representation, 1)], representation, method=method)
    brought, todo = set(), [Requirement(line).name for line in registration.folder_requirements(tmp_path / "model")]
    while todo:
        if (name := canonicalize_name(todo.pop())) not in brought:
            brought.add(name)
            needed = map(Requirement, importlib.metadata.requires(name) or [])
            todo += [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    owners, kept = importlib.metadata.packages_distributions(), brought | {"crossprop"}
    others = [name for name, of in owners.items() if not kept & set(map(canonicalize_name, of))]
    assert "tensorflow" in others
    command = [sys.executable, "-c", _LOADS, str(tmp_path / "model"), *others]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
