"""``crossprop serve`` and ``crossprop api-key``: what is refused before the service starts, and what is printed."""

import re
from hashlib import sha256

import pytest
from made_ensembles import write_info

from crossprop.cli.serve import _bytes, _hosts, _lines
from crossprop.errors import ModelFormatError, ServiceError
from crossprop.service.auth import read_keys
from crossprop.service.server import open_socket
from crossprop.service.settings import ServiceSettings
from crossprop.service.sources import FolderSource

BAD_ORIGINS = ["example.org", "https://example.org/", "ftp://a"]
BAD_HOSTS = ["https://predict.example", "predict.example:80", ""]


def test_a_key_that_was_made_can_be_put_into_a_file_and_is_found(crossprop, tmp_path):
    told = crossprop("api-key", "a", "--scope", "admin").printed.splitlines()
    secret, line, _ = (text.split(":", 1)[1].strip() for text in told)
    (tmp_path / "keys").write_text(line)
    [key] = read_keys(tmp_path / "keys")
    assert (key.owner, key.scope, key.digest) == ("a", "admin", sha256(secret.encode()).hexdigest())


def test_sizes_of_memory():
    assert [_bytes(text) for text in ("4G", "512M", "1.5g", "2GiB")] == [2**32, 2**29, 3 * 2**29, 2**31]


def test_a_port_that_is_taken_is_named_with_another_one(crossprop):
    with open_socket("127.0.0.1", 0) as taken:  # even before it answers
        port = taken.getsockname()[1]
        said = crossprop("serve", "--port", port).refusal
    assert re.search(f"Port {port} on 127.0.0.1 cannot be used.*--port {port + 1}", said)
    for none in ("70000", "-1"):
        assert crossprop("serve", "--port", none).status == 2


def test_wrong_options_are_refused(crossprop):
    for words, said in (
        (("api-key", "alice", "--scope", "root"), "read or admin"),
        *((("serve", "--cors", origin), r"--cors .* is no origin") for origin in BAD_ORIGINS),
        *((("serve", "--allowed-host", name), "--allowed-host") for name in BAD_HOSTS),
        *((("serve", f"--memory={size}"), "such as 4G") for size in ("much", "-1G", "nan", "1e999T")),
        (("serve", "--proxy", "proxy.local"), r"--proxy 'proxy\.local' is neither"),
        *((("serve", "--model=x", word, "y"), "--model serves") for word in ("--study", "--alias", "--cache")),
    ):
        assert re.search(said, crossprop(*words).refusal)


def test_a_folder_that_holds_no_model_or_the_same_as_another_is_refused_at_once(crossprop, tmp_path):
    assert "no readable model.json" in crossprop("serve", "--model", tmp_path).refusal
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
