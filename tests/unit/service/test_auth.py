from __future__ import annotations

import pytest

from crossprop.errors import ConfigError
from crossprop.service.auth import ENVIRONMENT, KeyRing, Scope, new_key, read_keys


def test_a_key_is_found_by_its_secret_only_and_only_a_digest_is_kept():
    secret, key = new_key("alice", Scope.READ)
    other, _ = new_key("bob", Scope.ADMIN)
    assert secret not in key.line
    assert KeyRing((key,)).find(secret) == key
    assert KeyRing((key,)).find(other) is None
    assert KeyRing((key,)).find("") is None
    assert KeyRing((key,)).find(key.digest) is None


def test_a_file_of_keys_may_hold_comments_and_blank_lines(tmp_path):
    alice, bob = new_key("alice", Scope.READ)[1], new_key("bob@lab", Scope.ADMIN)[1]
    file = tmp_path / "keys"
    file.write_text(f"# keys\n\n{alice.line}\n  {bob.line}\n")
    assert read_keys(file).keys == (alice, bob)


def test_keys_of_the_environment_are_separated_by_commas_or_line_breaks(monkeypatch):
    lines = [new_key(name, Scope.READ)[1].line for name in ("a", "b", "c")]
    monkeypatch.setenv(ENVIRONMENT, f"{lines[0]},{lines[1]}\n{lines[2]}")
    assert [key.owner for key in read_keys(None).keys] == ["a", "b", "c"]
    monkeypatch.setenv(ENVIRONMENT, " \n")
    assert not read_keys(None)
    monkeypatch.delenv(ENVIRONMENT)
    assert not read_keys(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "alice read hunter2",
        f"alice write sha256:{'0' * 64}",
        f"alice sha256:{'0' * 64}",
    ],
    ids=["empty", "comment", "no digest", "unknown scope", "no scope"],
)
def test_a_file_without_valid_keys_is_refused_so_that_no_service_starts_open_by_mistake(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigError, match="api-key NAME") as caught:
        read_keys(file)
    assert "hunter2" not in str(caught.value)


def test_a_variable_without_keys_a_missing_file_and_a_repeated_key_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "# only a comment")
    with pytest.raises(ConfigError, match="CROSSPROP_API_KEYS holds no API key"):
        read_keys(None)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "none")
    key = new_key("alice", Scope.READ)[1]
    (tmp_path / "keys").write_text(f"{key.line}\n{key.line.replace('alice', 'bob')}\n")
    with pytest.raises(ConfigError, match="twice"):
        read_keys(tmp_path / "keys")


def test_an_owner_that_could_not_be_read_back_is_refused():
    with pytest.raises(ConfigError, match="no name"):
        new_key("alice smith", Scope.READ)
