"""Write params.yaml anew from what conf/ composes by default: run it after a change of conf/."""

from __future__ import annotations

from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

HEADER = (
    "# The resolved configuration that `dvc repro` reads, as conf/ composes it (tools/resolve_params.py).\n"
)


def main() -> None:
    """Compose and write."""
    root = Path(__file__).resolve().parents[1]
    with initialize_config_dir(str(root / "conf"), version_base=None):
        values = OmegaConf.to_container(compose("config"), resolve=True)
    text = yaml.safe_dump(values, sort_keys=False, width=110, allow_unicode=True)
    (root / "params.yaml").write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main()
