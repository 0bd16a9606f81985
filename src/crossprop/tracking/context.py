"""What every run of a study has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crossprop.tracking.provenance import GitState, environment


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the stage knows and a cell does not.

    Attributes:
        uri: URI of the tracking store, prepared (``prepare_store``).
        study: Name of the study.
        git: Version of the code (``git_state``).
        data_hashes: Per property (target or source): hash of its prepared table.
        data_sources: Per property: path or URL of its prepared table.
        descriptions: Per property: what it is, for the descriptions of experiments and registered models.
        config_text: Resolved configuration, YAML.
    """

    uri: str
    study: str
    git: GitState = field(default_factory=GitState)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    data_sources: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    config_text: str = ""

    def git_tags(self) -> dict[str, str]:
        """Tags of the code's version; none outside a repository."""
        if self.git.commit is None:
            return {}
        tags = {
            "mlflow.source.git.commit": self.git.commit,
            "crossprop.git_dirty": str(self.git.dirty).lower(),
        }
        return tags | ({"mlflow.source.git.branch": self.git.branch} if self.git.branch else {})

    def environment(self) -> dict[str, Any]:
        """Content of ``environment.json``."""
        git = {"commit": self.git.commit, "branch": self.git.branch, "dirty": self.git.dirty}
        return {**environment(), "git": git}
