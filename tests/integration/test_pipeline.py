"""`dvc repro` on a shrunken study in a copy of the project: whole, again, killed, and two at once."""

import csv
import os
import resource
import shlex
import shutil
import signal
import subprocess
from collections import Counter

import pytest
import yaml
from studies import ROOT, Project, tracked

TARGETS = ["seebeck_n", "log_mass_n"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Study(Project):
    """The project with a shrunken study."""

    def params(self, **study):
        """Change the study's parameters."""
        path = self.root / "params.yaml"
        values = yaml.safe_load(path.read_text())
        values["study"] |= study
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def tracked(self):
        """Number of finished runs by cell, and of any others by status."""
        uri = f"sqlite:///{self.root / 'mlflow.db'}"
        runs = [run for target in TARGETS for run in tracked(uri, f"transport/{target}")]
        statuses = [(run.info.status, run.data.tags.get("crossprop.cell")) for run in runs]
        return Counter(cell if status == "FINISHED" else status for status, cell in statuses)

    def table(self, name):
        """Rows of a table of the report."""
        with (self.root / "summary" / "transport" / name).open() as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    copy = Study(tmp_path_factory.mktemp("project") / "crossprop")
    copy.copy("reports/", "dvc.lock", "tests/")
    copy.params(
        targets=TARGETS[:1], shards={"first": TARGETS[:1]}, methods=["base", "ml", "finetune"],
        representations=["elemental_fractions"], folds=2,
        budget={"ml_trials": 2, "dl_trials": 1, "seconds": 600},
    )  # fmt: skip
    values = yaml.safe_load((copy.root / "params.yaml").read_text())
    for recipe in ("pretrain", "scratch", "transfer"):
        values["study"][recipe] |= {"epochs": 1, "min_steps": 0}
    values["compute"] |= {"workers": 2}
    (copy.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    copy.commit()
    return copy


def test_one_command_runs_the_study_and_the_next_has_nothing_to_do(project):
    output = project.run("dvc", "repro")
    changed = project.run("git", "status", "--porcelain")
    assert changed.split() == ["??", "dvc.lock"]  # the record of what was run; reports/ is left alone
    assert "transport/seebeck_n [" in output  # progress is shown
    assert [row["method"] for row in project.table("cells.csv")] == ["base", "ml", "finetune"]
    (target,) = project.table("targets.csv")
    assert target["target"] == "seebeck_n"
    assert float(target["base_mae"]) > 0
    assert set(project.tracked().values()) == {1}
    assert (project.root / "summary/transport/README.md").is_file()

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = project.run("dvc", "repro")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Data and pipelines are up to date." in output
    assert "Running stage" not in output
    # of the processor, whatever else the machine does; about three on an idle one
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
    output = project.run("dvc", "status")
    assert "Data and pipelines are up to date." in output


def test_killed_pipeline_goes_on_and_tells_everything_once(project):
    finished = project.tracked()
    project.params(targets=TARGETS, shards={"first": TARGETS[:1], "second": TARGETS[1:]})
    process = project.start("dvc", "repro")
    lines = []
    assert process.stdout is not None
    for line in process.stdout:  # until the first piece of the new target is there
        lines.append(line)
        if f"transport/{TARGETS[1]} [" in line:
            break
    else:
        raise AssertionError("".join(lines))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    output = project.run("dvc", "repro")
    assert "tasks are finished already, going on" in output
    for shard, target in zip(("first", "second"), TARGETS, strict=True):
        assert (project.root / "results/transport" / shard / target / "winners.json").is_file()
    assert len(project.table("cells.csv")) == 6
    counts = project.tracked()
    assert set(counts.values()) == {1}
    assert "RUNNING" not in counts
    assert set(counts) >= set(finished)
    assert {row["cell"] for row in project.table("runs.csv")} <= set(counts)


def test_two_pipelines_at_once_lose_nothing(project):
    project.params(folds=3)
    rivals = [project.start("dvc", "repro") for _ in range(2)]
    outputs = [rival.communicate()[0] for rival in rivals]
    for rival, output in zip(rivals, outputs, strict=True):
        if rival.returncode:
            assert "lock" in output.lower() or "Another process works on" in output, output
    output = project.run("dvc", "repro")
    assert set(project.tracked().values()) == {1}
    assert len(project.table("cells.csv")) == 6
    assert "Data and pipelines are up to date." in project.run("dvc", "repro")


def test_forced_stage_and_target_of_another_shard_compute_nothing_and_keep_runs_and_tables(project):
    tables = {name: project.table(name) for name in ("cells.csv", "targets.csv")}
    runs = project.tracked()
    output = project.run("dvc", "repro", "--force", "--single-item", "transfer@first")
    assert "tasks are finished already, going on" in output
    project.params(shards={"both": TARGETS})
    output = project.run("dvc", "repro")
    assert "transfer@first" not in output
    assert "tasks are finished already, going on" in output
    assert "gone, about" not in output  # nothing is computed
    assert {name: project.table(name) for name in tables} == tables
    assert project.tracked() == runs


def test_study_stopped_on_one_machine_goes_on_on_another(project, tmp_path):
    """The commands of docs/operations.md: the store of cells, data and models are copied into a fresh checkout."""
    page = (ROOT / "docs" / "operations.md").read_text().split("## On another machine")[1]
    lines = page.split("```bash\n")[1].split("```")[0].splitlines()
    pack, unpack, commit, _ = filter(None, (shlex.split(line, comments=True) for line in lines))
    there = Study(tmp_path / "there")
    subprocess.run(["git", "clone", "--quiet", project.root, there.root], check=True)
    project.run(*pack)
    shutil.move(project.root / "study.tar", there.root)
    for command in (unpack, commit):
        there.run(*command)
    output = there.run("dvc", "repro")
    assert "Running stage 'pretrain" not in output
    assert "tasks are finished already, going on" in output
    assert "gone, about" not in output  # nothing is computed
    assert there.table("cells.csv") == project.table("cells.csv")
    assert there.table("targets.csv") == project.table("targets.csv")
    # here the runs of earlier parameters are kept as well
    assert there.tracked() == {row["cell"]: 1 for row in project.table("runs.csv")}
