"""An application with made-up models, asked without a network."""

from contextlib import ExitStack

import pytest
from fake_service import FakeSource, load_fake
from starlette.testclient import TestClient
from waiting import until

from crossprop.service.app import create_app
from crossprop.service.settings import Limits, ServiceSettings


@pytest.fixture
def source(tmp_path):
    made = FakeSource(tmp_path)
    made.add("bulkmoduluskv")
    made.add("deltae")
    return made


@pytest.fixture
def client_of(source):
    with ExitStack() as stack:

        def make(limits=None, load=load_fake, **settings):
            settings |= {"limits": limits or Limits(), "poll_seconds": 0.05}
            app = create_app(ServiceSettings(**settings), source, load)
            client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
            stack.enter_context(client)
            service = app.state.service
            until(lambda: service.polled)
            until(lambda: all(one.status[0] != "loading" for one in service.cache.properties.values()))
            return client

        yield make


@pytest.fixture
def client(client_of):
    return client_of()
