"""``crossprop serve`` and ``crossprop api-key``: what is refused before anything costly begins, and what is told."""

from __future__ import annotations

import socket

import pytest
from made_ensembles import write_info
from typer.testing import CliRunner

from crossprop.cli import app
from crossprop.cli.serve import _bytes, _hosts, _lines
from crossprop.errors import ConfigError, CrosspropError, ModelFormatError, ServiceError
from crossprop.service.auth import read_keys
from crossprop.service.server import open_socket
from crossprop.service.settings import ServiceSettings, half_of_memory
from crossprop.service.sources import FolderSource


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if isinstance(result.exception, CrosspropError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_key_that_was_made_can_be_put_into_a_file_and_is_found(tmp_path):
    output = run("api-key", "alice", "--scope", "admin")
    secret = output.splitlines()[0].split(": ")[1].strip()
    line = output.splitlines()[1].split(":", 1)[1].strip()
    (tmp_path / "keys").write_text(line)
    key = read_keys(tmp_path / "keys").find(secret)
    assert (key.owner, key.scope) == ("alice", "admin")


def test_an_unknown_scope_is_refused():
    with pytest.raises(ConfigError, match="read or admin"):
        run("api-key", "alice", "--scope", "root")


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 2**32), ("512M", 2**29), ("1.5g", 3 * 2**29), ("2GiB", 2**31), ("1", 2**30)]
)
def test_sizes_of_memory(text, size):
    assert _bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1G", "0", "nan", "1e999T"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="such as 4G"):
        _bytes(text)


def test_half_of_the_memory_is_a_share_of_what_there_is():
    import psutil

    assert 0 < half_of_memory() <= psutil.virtual_memory().total // 2


def test_a_port_that_is_taken_is_named_with_another_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"Port {port} on 127.0.0.1 cannot be used.*--port"):
            run("serve", "--port", str(port))


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_a_port_that_does_not_exist_is_refused_rather_than_another_one_taken(port):
    result = CliRunner().invoke(app, ["serve", "--port", port])
    assert result.exit_code == 2
    assert "--port" in result.output


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "https://example.org/a", "ftp://a", ""]
)
def test_an_origin_that_no_browser_sends_is_refused(origin):
    with pytest.raises(ConfigError, match=r"--cors .* is no origin"):
        run("serve", "--cors", origin)


def test_a_proxy_that_is_no_address_is_refused():
    with pytest.raises(ConfigError, match=r"--proxy 'proxy\.local' is neither"):
        run("serve", "--proxy", "proxy.local")


def test_an_ipv6_address_is_shown_as_browsers_take_it(tmp_path):
    write_info(tmp_path, study="own", target="hardness")
    page = _lines("::1", 8000, FolderSource((tmp_path,)), ServiceSettings(), True)[1]
    assert "http://[::1]:8000/" in page


def test_an_address_that_is_not_of_this_machine_is_refused():
    with pytest.raises(ServiceError, match=r"192\.0\.2\.1"):
        open_socket("192.0.2.1", 0)
    with pytest.raises(ServiceError, match="unknown here"):
        open_socket("no.such.host.invalid", 0)


def test_folders_and_a_registry_cannot_be_served_at_once(tmp_path):
    with pytest.raises(ConfigError, match="--model serves folders"):
        run("serve", "--model", str(tmp_path), "--study", "jarvis")


def test_a_folder_that_holds_no_model_is_refused_at_once(tmp_path):
    with pytest.raises(ModelFormatError, match=r"no readable model\.json"):
        run("serve", "--model", str(tmp_path))


def test_two_folders_of_one_target_are_refused(tmp_path):
    for name in ("a", "b"):
        write_info(tmp_path / name, study="own", target="hardness")
    with pytest.raises(ServiceError, match=r"both models of own\.hardness"):
        FolderSource((tmp_path / "a", tmp_path / "b"))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "model.json").write_text("[1, 2]")
    with pytest.raises(ModelFormatError, match="valid dictionary"):
        FolderSource((tmp_path,))
    write_info(tmp_path, target=None)
    with pytest.raises(ModelFormatError, match="does not name a target"):
        FolderSource((tmp_path,))


@pytest.mark.parametrize(
    ("host", "more", "added"),
    [
        ("127.0.0.1", [], ()),
        ("0.0.0.0", [], ()),
        ("::1", [], ()),
        ("192.0.2.7", [], ("192.0.2.7",)),
        ("fe80::7", ["Predict.example", "*.lab.example"], ("[fe80::7]", "predict.example", "*.lab.example")),
    ],
)
def test_the_service_answers_for_the_loopback_for_its_own_address_and_for_named_hosts(host, more, added):
    assert _hosts(host, more) == ("localhost", "127.0.0.1", "[::1]", *added)


@pytest.mark.parametrize("name", ["https://predict.example", "predict.example:80", "a b", ""])
def test_a_host_name_with_more_than_a_name_is_refused(name):
    with pytest.raises(ConfigError, match="--allowed-host"):
        run("serve", "--allowed-host", name)


def test_help_needs_no_heavy_package():
    import subprocess
    import sys

    program = (
        "import sys; from crossprop.cli import app; from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['serve', '--help']).exit_code == 0\n"
        "print([m for m in ('fastapi', 'uvicorn', 'mlflow', 'tensorflow', 'keras', 'onnxruntime') if m in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
