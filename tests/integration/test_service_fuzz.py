"""The service against its own OpenAPI document: whatever a caller makes up, no failure and no hang."""

import pytest
import requests
import schemathesis
from fake_service import FakeSource, load_fake, serving
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection
from waiting import PATIENCE, until

from crossprop.service.app import create_app
from crossprop.service.settings import ServiceSettings

PATHS = {
    "/v1/predict", "/v1/properties", "/v1/properties/{name}/parity", "/v1/models", "/v1/refresh", "/healthz", "/readyz",
    "/metrics",
}  # fmt: skip


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    source = FakeSource(tmp_path_factory.mktemp("models"))
    for target in ("bulkmoduluskv", "deltae"):
        source.add(target)
    with serving(create_app(ServiceSettings(), source, load_fake)) as url:
        until(lambda: requests.get(f"{url}/readyz", timeout=PATIENCE).json().get("properties") == 2)
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def fuzz(described, mode, examples):
    """Statuses by path; every answer has to be one of the documented ones, in the documented form."""
    statuses: dict[str, set[int]] = {}

    def check(case):
        body = case.body
        if mode is GenerationMode.POSITIVE and isinstance(body, dict) and len(body["properties"]) % 2:
            # Made-up names alone would never reach a model.
            body["properties"] = ["deltae", "bulkmoduluskv"][: len(body["properties"])]
        answer = case.call()
        refused = answer.status_code == 413  # a refusal, too, though none that the check knows
        case.validate_response(answer, excluded_checks=[negative_data_rejection] if refused else None)
        assert answer.status_code < 500 or answer.status_code == 503
        assert answer.elapsed < PATIENCE
        statuses.setdefault(case.operation.path, set()).add(answer.status_code)

    relaxed = settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    for found in described.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.POSITIVE or operation.body or operation.path_parameters:
            relaxed(given(case=operation.as_strategy(generation_mode=mode))(check))()
    return statuses


def test_requests_that_the_document_allows_are_answered_as_it_says(described):
    statuses = fuzz(described, GenerationMode.POSITIVE, 20)
    assert set(statuses) == PATHS
    assert 200 in statuses["/v1/predict"]
    assert statuses["/v1/refresh"] == {403}


def test_requests_that_the_document_forbids_are_refused_as_it_says(described):
    statuses = fuzz(described, GenerationMode.NEGATIVE, 20)
    assert statuses["/v1/predict"] & {400, 415, 422}
    assert 200 not in statuses["/v1/predict"]
