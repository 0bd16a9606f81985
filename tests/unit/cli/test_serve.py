"""``crossprop serve`` and ``crossprop api-key``: what is refused before the service starts, and what is printed."""

import socket

import pytest
from made_ensembles import write_info
from typer.testing import CliRunner

from crossprop.cli import app
from crossprop.cli.serve import _bytes, _hosts, _lines
from crossprop.errors import ConfigError, CrosspropError, ModelFormatError, ServiceError
from crossprop.service.auth import read_keys
from crossprop.service.settings import ServiceSettings
from crossprop.service.sources import FolderSource

BAD_ORIGINS = ["example.org", "https://example.org/", "ftp://a"]
BAD_HOSTS = ["https://predict.example", "predict.example:80", ""]


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, CrosspropError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_key_that_was_made_can_be_put_into_a_file_and_is_found(tmp_path):
    told = run("api-key", "a", "--scope", "admin").splitlines()
    secret, line, _ = (text.split(":", 1)[1].strip() for text in told)
    (tmp_path / "keys").write_text(line)
    key = read_keys(tmp_path / "keys").find(secret)
    assert (key.owner, key.scope) == ("a", "admin")


def test_sizes_of_memory():
    assert [_bytes(text) for text in ("4G", "512M", "1.5g", "2GiB")] == [2**32, 2**29, 3 * 2**29, 2**31]


def test_a_port_that_is_taken_is_named_with_another_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"Port {port} on 127.0.0.1 cannot be used.*--port"):
            run("serve", "--port", str(port))
    for none in ("70000", "-1"):
        assert CliRunner().invoke(app, ["serve", "--port", none]).exit_code == 2


def test_wrong_options_are_refused():
    for words, said in (
        (("api-key", "alice", "--scope", "root"), "read or admin"),
        *((("serve", "--cors", origin), r"--cors .* is no origin") for origin in BAD_ORIGINS),
        *((("serve", "--allowed-host", name), "--allowed-host") for name in BAD_HOSTS),
        *((("serve", f"--memory={size}"), "such as 4G") for size in ("much", "-1G", "nan", "1e999T")),
        (("serve", "--proxy", "proxy.local"), r"--proxy 'proxy\.local' is neither"),
        *(
            (("serve", "--model=x", word, "y"), "--model serves")
            for word in ("--study", "--alias", "--cache")
        ),
    ):
        with pytest.raises(ConfigError, match=said):
            run(*words)


def test_a_folder_that_holds_no_model_or_the_same_as_another_is_refused_at_once(tmp_path):
    with pytest.raises(ModelFormatError, match=r"no readable model\.json"):
        run("serve", "--model", str(tmp_path))
    with pytest.raises(ModelFormatError, match="target is None"):
        FolderSource((write_info(tmp_path, target=None),))
    folders = tuple(write_info(tmp_path / name, study="own", target="hardness") for name in "ab")
    with pytest.raises(ServiceError, match=r"both models of own\.hardness"):
        FolderSource(folders)
    source = FolderSource(folders[:1])
    assert "http://[::1]:8000/" in _lines("::1", 8000, source, ServiceSettings(), True)[1]


def test_the_service_answers_for_the_loopback_for_its_own_address_and_for_named_hosts():
    for host, more, added in (
        ("127.0.0.1", [], ()),
        ("192.0.2.7", [], ("192.0.2.7",)),
        ("fe80::7", ["Predict.example", "*.lab.example"], ("[fe80::7]", "predict.example", "*.lab.example")),
    ):
        assert _hosts(host, more) == ("localhost", "127.0.0.1", "[::1]", *added)
