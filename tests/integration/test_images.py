"""The container images, built and started."""

import json
import os
import re
import subprocess

import pytest
from registries import save_ridge
from stores import free_ports
from studies import ROOT

from crossprop.data.compositions import fraction_matrix
from crossprop.models.saved import load_predictor


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_images_are_built_and_the_service_answers_on_a_read_only_root(tmp_path):
    model, (port,) = save_ridge(tmp_path / "model"), free_ports(1)
    command = [ROOT / "tools" / "build_images.sh", model]
    environment = os.environ | {"PORT": str(port)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "neither docker nor podman answers" in done.stderr:
        pytest.skip("neither docker nor podman answers")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout.splitlines()[-1])["results"][0]["predictions"]["hardness"]["value"]
    assert value == pytest.approx(load_predictor(model).predict(fraction_matrix(["Al2O3"]))[0], rel=1e-5)
    assert int(re.search(r"crossprop-service: (\d+) MB", done.stdout)[1]) <= 1200
