"""Questions to the application, and what is common to its refusals."""

from starlette.testclient import TestClient


def ask(client: TestClient, formulas, properties=("deltae",), **more):
    return client.post("/v1/predict", json={"formulas": formulas, "properties": list(properties), **more})


def error_of(response) -> tuple[int, str]:
    assert set(response.json()) == {"error"}
    return response.status_code, response.json()["error"]["type"]
