"""Every stage of dvc.yaml names what its script imports and reads, so that `dvc repro` never keeps stale results."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "crossprop"
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
STAGES: dict[str, dict[str, Any]] = {name: stage.get("do", stage) for name, stage in DVC["stages"].items()}

ANYWHERE = {
    "__init__.py": "holds the version",
    "config.py": "read through `params`: what it yields is what the stage names there",
    "errors.py": "no result depends on an error's class",
    "io.py": "how files are written",
    "paths.py": "a moved folder is another `outs`",
    "experiments/progress.py": "lines of progress",
}
"""Modules that no stage needs to name, with the reason."""

TRACKING = "records what was computed; a run is looked up by its tags, so another layout changes no result"
WORDS = "names of methods, layers and protocols"
LABEL = "looks up the unit, which only labels"
NOT_RUN = "imported, but not run"
OF_THE_STAGE: dict[str, dict[str, str]] = {
    "fetch": {"methods.py": WORDS},
    "prepare": {
        "methods.py": WORDS,
        "experiments": "reached through progress.py, which prints",
    },
    "featurize": {"methods.py": WORDS},
    "pretrain": {
        "data": "the table is a dependency; the catalogue only labels",
        "experiments": "of these only pretrain.py computes; the others give hashes and lines of progress",
        "features": "matrices are read, not computed; their content is a dependency",
        "models": "of these, those that the stage names are run",
        "tracking": TRACKING,
    },
    "pretrain_joint": {
        "data": "tables are dependencies; the catalogue only labels",
        "experiments": "of these only pretrain.py computes; the others give hashes and lines of progress",
        "features": "matrices are read, not computed; their content is a dependency",
        "models": "of these, those that the stage names are run",
        "tracking": TRACKING,
    },
    "transfer": {"data/catalog.py": LABEL, "data/catalog.yaml": LABEL, "tracking": TRACKING},
    "summarize": {
        "data": "the plan hashes the tables that results/ was computed from",
        "experiments": "the plan lists the ids of cells; what changes them changes results/ first",
        "features": NOT_RUN,
        "models": NOT_RUN,
        "training": NOT_RUN,
        "methods.py": WORDS,
    },
    "register": {
        "data": "parses formulas when a model is loaded back; the tables are dependencies",
        "experiments": "reads results/",
        "features": "a model carries the code along that made it: a change there changes results/ first",
        "models": "as features",
        "methods.py": WORDS,
    },
}
"""Modules and packages that one stage reaches, but does not depend on, with the reason."""


def script_of(stage: dict[str, Any]) -> Path:
    """The Python script behind a stage, also where `mlflow run` calls it."""
    command = stage["cmd"]
    if entry := re.search(r"mlflow run \. -e (\w+)", command):
        command = MLPROJECT["entry_points"][entry[1]]["command"]
    return ROOT / next(word for word in shlex.split(command) if word.endswith(".py"))


@cache
def imports_of(path: Path) -> frozenset[Path]:
    """Modules of crossprop that a file imports anywhere in it, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        assert not getattr(node, "level", 0), f"{path} imports relatively"
        for name in names:
            if name.split(".")[0] == "crossprop":
                parts = name.split(".")[1:]
                for end in range(len(parts) + 1):
                    base = PACKAGE.joinpath(*parts[:end])
                    found |= {p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()}
    return frozenset(found)


def reached_from(script: Path) -> set[str]:
    """Files under src/crossprop that a script needs, as posix paths; empty `__init__.py` count for nothing."""
    todo, seen = [script], set()
    while todo:
        for path in imports_of(todo.pop()) - seen:
            seen.add(path)
            todo.append(path)
    if PACKAGE / "data" / "catalog.py" in seen:
        seen.add(PACKAGE / "data" / "catalog.yaml")
    names = {path.relative_to(PACKAGE).as_posix() for path in seen}
    return {name for name in names if not name.endswith("/__init__.py")}


def stands_under(name: str, tops: Any) -> bool:
    return any(name == top or name.startswith(f"{top}/") for top in tops)


by_stage = pytest.mark.parametrize("name", STAGES)


def test_every_stage_has_its_reasons_here():
    assert set(OF_THE_STAGE) == set(STAGES)


@by_stage
def test_script_of_a_stage_exists_and_is_a_dependency(name):
    script = script_of(STAGES[name])
    assert script.is_file()
    assert script.relative_to(ROOT).as_posix() in STAGES[name]["deps"]


def test_every_script_belongs_to_a_stage():
    assert {script_of(stage) for stage in STAGES.values()} == set((ROOT / "pipelines").glob("*.py"))


@by_stage
def test_a_stage_depends_on_the_code_that_it_runs(name):
    prefix = "src/crossprop/"
    deps = {dep.removeprefix(prefix) for dep in STAGES[name]["deps"] if dep.startswith(prefix)}
    excused = {*ANYWHERE, *OF_THE_STAGE[name]}
    unnamed = {
        module
        for module in reached_from(script_of(STAGES[name]))
        if not stands_under(module, deps) and not stands_under(module, excused)
    }
    assert not unnamed, f"add to `deps` of {name}, or give a reason in this file"


@by_stage
def test_what_a_stage_depends_on_is_code_that_it_runs(name):
    reached = reached_from(script_of(STAGES[name]))
    for dep in STAGES[name]["deps"]:
        if dep.startswith("src/crossprop/"):
            path = ROOT / dep
            assert path.exists(), dep
            top = dep.removeprefix("src/crossprop/")
            assert stands_under(top, reached) or any(stands_under(module, [top]) for module in reached), dep


@by_stage
def test_excuses_are_needed(name):
    reached = reached_from(script_of(STAGES[name]))
    for excuse in OF_THE_STAGE[name]:
        assert (PACKAGE / excuse).exists(), excuse
        assert any(stands_under(module, [excuse]) for module in reached), f"{name} does not reach {excuse}"


by_composition = pytest.mark.parametrize(
    "overrides",
    [("study=transport",), ("study=jarvis_small",), ("study=jarvis",)]
    + [("study=jarvis", f"tier={tier}") for tier in ("quick", "full")],
    ids=",".join,
)


@by_composition
@by_stage
def test_parameters_of_a_stage_exist(name, overrides, compose):
    params = compose(*overrides)
    for key in keys_of(name, params):
        for path in STAGES[name].get("params", []):
            look_up(path.replace("${key}", key).replace("${item}", key), params)


@by_composition
@by_stage
def test_values_that_a_stage_interpolates_exist(name, overrides, compose):
    stage = DVC["stages"][name]
    text = yaml.safe_dump(stage)
    for path in set(re.findall(r"\${([\w.]+)}", text)) - {"item", "key"}:
        look_up(path, compose(*overrides))
    assert ("foreach" in stage) == ("${item}" in text or "${key}" in text)


@by_composition
def test_a_study_stays_far_below_the_number_of_stages_that_dvc_is_slow_with(overrides, compose):
    params = compose(*overrides)
    assert sum(len(keys_of(name, params)) for name in STAGES) <= 25


def keys_of(name: str, params: Any) -> list[str]:
    """What a stage is run for: one nameless time, or once for every item of its `foreach`."""
    over = DVC["stages"][name].get("foreach")
    return [""] if over is None else list(look_up(over.strip("${}"), params))


def look_up(path: str, params: Any) -> Any:
    """The value at a dotted path."""
    for part in path.split("."):
        assert part in params, f"{path} is not in the composed configuration"
        params = params[part]
    return params


def test_a_shards_list_concerns_no_other_shard():
    """A target that moves from one shard to another must not let a third one run again."""
    named = STAGES["transfer"]["params"]
    assert "study.shards.${key}" in named
    assert not {"study", "study.shards", "study.targets"} & set(named)


@by_stage
def test_what_a_stage_reads_is_what_another_one_writes(name):
    outs = {
        out if isinstance(out, str) else next(iter(out))
        for stage in STAGES.values()
        for out in stage.get("outs", [])
    }
    for dep in STAGES[name]["deps"]:
        if not (ROOT / dep).exists() or dep.startswith(("data/", "models/", "results/")):
            assert any(stands_under(dep, [out]) or stands_under(out, [dep]) for out in outs), dep


@by_stage
def test_fields_that_change_a_stages_result_are_among_its_parameters(name):
    """Budgets, recipes and seeds: whoever changes one must see the stage run again."""
    needed = {
        "fetch": {"study.targets", "study.sources", "study.edition"},
        "prepare": {"study.targets", "study.sources", "study.edition", "study.seed"},
        "featurize": {"study.targets", "study.sources", "study.joint"},
        "pretrain": {"study.seed", "study.edition", "study.pretrain", "compute.backend"},
        "pretrain_joint": {
            "study.seed",
            "study.edition",
            "study.joint.${key}",
            "study.joint_pretrain",
            "compute.backend",
        },
        "transfer": {
            *(f"study.{key}" for key in PARAMS["study"]),
            *(f"search.{key}" for key in PARAMS["search"]),
            "study.shards.${key}",
            "compute.backend",
        } - {
            "study.name",  # part of every path
            "study.title",
            "study.tier",  # the name of what the other values say
            "study.targets",  # those of the shard
            "study.shards",
            "study.sources",  # those in use: elemnet_sources and joint
            "study.edition",  # read through the prepared tables and the source networks
            "study.pretrain",  # read through the source networks
            "study.joint_pretrain",  # read through the joint network
        },
        "summarize": {f"study.{key}" for key in PARAMS["study"]},
        "register": {"study.name", "study.targets", "study.shards"},
    }[name]  # fmt: skip
    assert {field for field in needed if not _named(field, STAGES[name].get("params", []))} == set()


@pytest.mark.parametrize("name", [name for name in STAGES if "mlflow run" in STAGES[name]["cmd"]])
def test_project_step_is_called_with_parameters_that_it_has(name):
    command = STAGES[name]["cmd"]
    entry = MLPROJECT["entry_points"][re.search(r"-e (\w+)", command)[1]]
    given = set(re.findall(r"-P (\w+)=", command))
    required = {key for key, value in entry["parameters"].items() if "default" not in value}
    assert required <= given <= set(entry["parameters"])
    assert "--env-manager local" in command  # MLflow would build an environment otherwise


def _named(field: str, params: list[str]) -> bool:
    return any(field == entry or field.startswith(f"{entry}.") for entry in params)
