"""Every stage of dvc.yaml names what its script imports and reads, so that `dvc repro` never keeps stale results."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from crossprop.data.catalog import load_catalog
from crossprop.paths import OWN_CATALOG

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
PRETRAIN = {
    "data": "the table is a dependency; the catalogue only labels",
    "experiments": "of these only pretrain.py computes; the others give hashes and lines of progress",
    "features": "matrices are read, not computed; their content is a dependency",
    "models": "of these, those that the stage names are run",
    "tracking": TRACKING,
}
OF_THE_STAGE: dict[str, dict[str, str]] = {
    "fetch": {"methods.py": WORDS},
    "prepare": {"methods.py": WORDS, "experiments": "reached through progress.py, which prints", "training": NOT_RUN},
    "featurize": {"methods.py": WORDS},
    "pretrain": PRETRAIN,
    "pretrain_joint": PRETRAIN,
    "transfer": {"data/catalog.py": LABEL, "tracking": TRACKING},
    "summarize": {
        "data": "says which rows stay together: what changes that changes results/ first",
        "experiments/pretrain.py": "reads the provenance of a network",
        **dict.fromkeys((f"experiments/{name}.py" for name in ("fingerprint", "grid", "tuning")), NOT_RUN),
        "features": NOT_RUN,
        "models": NOT_RUN,
        "training": "its error measures: what changes those changes results/ first",
    },
    "register": {
        "data": "parses formulas when a model is loaded back; the tables are dependencies",
        "experiments": "reads results/",
        "features": "a model carries the code along that made it: a change there changes results/ first",
        "models": "as features",
        "training": NOT_RUN,
        "methods.py": WORDS,
    },
}
"""Modules and packages that one stage reaches, but does not depend on, with the reason."""

COMPOSITIONS = [("study=jarvis", f"tier={tier}") for tier in ("models", "quick", "full")]
NAMED = ("transport", "jarvis_small", "jarvis", "jarvis_paper_exclusion")
COMPOSITIONS += [(f"study={name}",) for name in NAMED]
by_stage = pytest.mark.parametrize("name", STAGES)


def script_of(stage):
    """The Python script behind a stage, also where `mlflow run` calls it."""
    command = stage["cmd"]
    if entry := re.search(r"mlflow run \. -e (\w+)", command):
        command = MLPROJECT["entry_points"][entry[1]]["command"]
    return ROOT / next(word for word in shlex.split(command) if word.endswith(".py"))


@cache
def _imports():
    return grimp.build_graph("crossprop", cache_dir=None)


def reached_from(script):
    """Files under src/crossprop that a script needs, as posix paths; `__init__.py` only for what it imports."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            named |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    todo, seen = named & _imports().modules, set()
    while todo:
        module = todo.pop()
        seen.add(module)
        further = {*_imports().find_modules_directly_imported_by(module), module.rpartition(".")[0]}
        todo |= further - seen - {""}
    names = {module.removeprefix("crossprop").strip(".").replace(".", "/") + ".py" for module in seen}
    extra = {"data/catalog.yaml"} if "data/catalog.py" in names else set()
    return {name for name in names if (PACKAGE / name).is_file()} | extra


def stands_under(name, tops):
    return any(name == top or name.startswith(f"{top}/") for top in tops)


def test_every_script_belongs_to_a_stage():
    scripts = {name: script_of(stage) for name, stage in STAGES.items()}
    assert set(scripts.values()) == set((ROOT / "pipelines").glob("*.py"))
    for name, script in scripts.items():
        assert script.relative_to(ROOT).as_posix() in STAGES[name]["deps"]


@by_stage
def test_a_stage_depends_on_the_code_that_it_runs(name):
    prefix = "src/crossprop/"
    deps = {dep.removeprefix(prefix) for dep in STAGES[name]["deps"] if dep.startswith(prefix)}
    reached = reached_from(script_of(STAGES[name]))
    known = {*deps, *ANYWHERE, *OF_THE_STAGE[name]}
    unnamed = {module for module in reached if not stands_under(module, known)}
    assert not unnamed, f"add to `deps` of {name}, or give a reason in this file"
    for top in {*deps, *OF_THE_STAGE[name]}:
        assert (PACKAGE / top).exists(), top
        assert any(stands_under(module, [top]) for module in reached), f"{name} does not reach {top}"


@pytest.mark.parametrize("overrides", COMPOSITIONS, ids=",".join)
@by_stage
def test_parameters_of_a_stage_exist(name, overrides, compose):
    params = compose(*overrides)
    assert len(keys_of(name, params)) <= 12  # DVC is slow with many stages
    for key in keys_of(name, params):
        for path in STAGES[name].get("params", []):
            look_up(path.replace("${key}", key).replace("${item}", key), params)
    for path in set(re.findall(r"\${([\w.]+)}", yaml.safe_dump(DVC["stages"][name]))) - {"item", "key"}:
        look_up(path, params)


def keys_of(name, params):
    """What a stage is run for: one nameless time, or once for every item of its `foreach`."""
    over = DVC["stages"][name].get("foreach")
    return [""] if over is None else list(look_up(over.strip("${}"), params))


def look_up(path, params):
    """The value at a dotted path."""
    for part in path.split("."):
        assert part in params, f"{path} is not in the composed configuration"
        params = params[part]
    return params


@by_stage
def test_what_a_stage_reads_is_what_another_one_writes(name):
    listed = [out for stage in STAGES.values() for out in stage.get("outs", [])]
    outs = {out if isinstance(out, str) else next(iter(out)) for out in listed}
    for dep in STAGES[name]["deps"]:
        if not (ROOT / dep).exists() or dep.startswith(("data/", "models/", "results/")):
            assert any(stands_under(dep, [out]) or stands_under(out, [dep]) for out in outs), dep


def test_budgets_recipes_and_seeds_run_the_transfer_again_but_another_shard_does_not():
    read_elsewhere = {"name", "title", "tier"}  # part of every path, and words for the other values
    read_elsewhere |= {"targets", "shards"}  # those of the shard
    # read through the prepared tables and the source networks
    read_elsewhere |= {"edition", "excluded", "pretrain", "joint_pretrain"}
    needed = {f"study.{key}" for key in {*PARAMS["study"]} - read_elsewhere} | {"search"}
    needed |= {"compute.backend", "compute.precision"}
    assert set(STAGES["transfer"]["params"]) == needed | {"study.shards.${key}"}
    for name in ("pretrain", "pretrain_joint"):
        recipe = f"study.{'joint_' * (name != 'pretrain')}pretrain"
        assert {"study.seed", "study.edition", recipe} <= {*STAGES[name]["params"]}


def test_own_data_are_there_depended_on_and_not_ignored():
    """DVC would not run without the catalogue, and `fetch` has to notice a file that was changed by hand."""
    load_catalog(ROOT / OWN_CATALOG)
    assert "own" in STAGES["fetch"]["deps"]
    for name in ("prepare", "transfer", "summarize"):
        assert OWN_CATALOG.as_posix() in STAGES[name]["deps"]
    for name in (".gitignore", ".dvcignore"):
        lines = (ROOT / name).read_text().splitlines()
        assert not any(line.strip("/").split("/")[0] == "own" for line in lines)
