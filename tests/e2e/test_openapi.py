"""The OpenAPI document is served, valid, and complete."""

from __future__ import annotations

import httpx
from openapi_spec_validator import validate

from tests.e2e.mesh import LocalMesh
from tests.e2e.rpcs import all_rpcs


async def test_document_is_valid_and_lists_every_route(mesh: LocalMesh) -> None:
    async with httpx.AsyncClient(base_url=mesh.url, trust_env=False) as http:
        answer = await http.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    validate(document)
    listed = {(verb, path) for path, verbs in document["paths"].items() for verb in verbs}
    routes = {route for rpc in all_rpcs() for route in rpc.routes}
    assert {(verb, path.replace("=*", "")) for verb, path in routes} <= listed


async def test_document_says_who_needs_a_token(mesh: LocalMesh) -> None:
    async with httpx.AsyncClient(base_url=mesh.url, trust_env=False) as http:
        document = (await http.get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert any(scheme.get("scheme") == "bearer" for scheme in schemes.values())
    for rpc in all_rpcs():
        for verb, path in rpc.routes:
            operation = document["paths"][path][verb]
            needed = operation.get("security", document.get("security", []))
            assert bool([each for each in needed if each]) is not rpc.rule.public, rpc.name
            assert "4" in "".join(operation["responses"]) or "default" in operation["responses"]
