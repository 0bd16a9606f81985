import pytest

from crossprop.paths import StudyPaths
from crossprop.report.study import study_info


@pytest.fixture
def info(tmp_path, tiny_params, write_target):
    def build(**study):
        write_target(tmp_path)
        params = tiny_params(sources=[], methods=["base", "ml"], **study)
        return study_info(params, StudyPaths.of(params.study, tmp_path))

    return build


def test_a_plan_names_tier_folds_and_cells(info):
    made = info(tier="quick", folds=4)
    assert made.tier == "quick"
    assert [target.folds for target in made.targets] == [4] * len(made.targets)
    assert all(target.cells for target in made.targets)
    assert any("4 folds" in line for line in made.budget)
    assert not any("Multi-fidelity" in line for line in made.budget)


def test_a_plan_says_what_multi_fidelity_stops(info):
    rules = {"rows": 500, "steps": 50, "after_screening": 2, "after_first_fold": 1, "margin": 0.1}
    (line,) = (line for line in info(fidelity=rules).budget if line.startswith("Multi-fidelity"))
    assert "at most 500 rows" in line
    assert "more than 10 % behind" in line
