"""Write params.yaml anew from what conf/ composes: `python tools/resolve_params.py [study=jarvis tier=quick …]`.

Without arguments it composes the defaults: run it after a change of conf/.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

HEADER = "# The resolved configuration that `dvc repro` reads, as conf/ composes it (tools/resolve_params.py).\n"


def main(overrides: list[str]) -> None:
    """Compose and write.

    Args:
        overrides: Of groups and values, as Hydra and `dvc exp run -S` take them.
    """
    root = Path(__file__).resolve().parents[1]
    with initialize_config_dir(str(root / "conf"), version_base=None):
        values = OmegaConf.to_container(compose("config", overrides=overrides), resolve=True)
    text = yaml.safe_dump(values, sort_keys=False, width=110, allow_unicode=True)
    (root / "params.yaml").write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
