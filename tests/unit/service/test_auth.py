import pytest

from crossprop.errors import ConfigError
from crossprop.service.auth import ENVIRONMENT, Scope, new_key, read_keys


def test_keys_are_read_from_a_file_or_else_from_the_environment(tmp_path, monkeypatch):
    keys = tuple(new_key(name, Scope.ADMIN)[1] for name in ("a", "b@lab", "c"))
    (tmp_path / "keys").write_text("# keys\n\n" + "\n  ".join(key.line for key in keys))
    assert read_keys(tmp_path / "keys") == keys
    monkeypatch.setenv(ENVIRONMENT, f"{keys[0].line},{keys[1].line}\n{keys[2].line}")
    assert read_keys(None) == keys
    monkeypatch.setenv(ENVIRONMENT, " \n")
    assert not read_keys(None)
    monkeypatch.delenv(ENVIRONMENT)
    assert not read_keys(None)


ZEROS = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no API key"),
        ("alice read hunter2", "line 1, is not"),
        (f"\nalice write {ZEROS}", "line 2, is not"),
        (f"alice read {ZEROS}\nbob read {ZEROS}", "twice"),
    ],
)
def test_a_file_without_valid_keys_is_refused_so_that_no_service_starts_open(tmp_path, text, reason):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_keys(tmp_path / "keys")
    assert "hunter2" not in str(caught.value)


def test_a_variable_without_keys_a_missing_file_and_an_owner_with_a_blank_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "# only a comment")
    with pytest.raises(ConfigError, match="CROSSPROP_API_KEYS holds no API key"):
        read_keys(None)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "none")
    with pytest.raises(ConfigError, match="no name"):
        new_key("alice smith", Scope.READ)
