"""Bad input by REST: an answer of the 4xx kind, as JSON, with the field; never a fault of ours."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.e2e.makers import Maker
from tests.e2e.rpcs import Rpc, all_rpcs

ROUTED = [rpc for rpc in all_rpcs() if rpc.routes]
EVERY = pytest.mark.parametrize("rpc", ROUTED, ids=lambda rpc: rpc.name)
NOTHING = "0" * 32
JSON = {"content-type": "application/json"}
_PREFIX = {
    "agent_id": "agt",
    "session_id": "ses",
    "turn_id": "trn",
    "message_id": "msg",
    "circle_id": "crc",
    "task_id": "tsk",
    "offer_id": "off",
    "memory_id": "mem",
    "grant_id": "grt",
    "execution_id": "exe",
    "workspace_id": "wsp",
    "api_key_id": "key",
    "delegation_id": "dlg",
    "user_id": "usr",
    "invitation_id": "inv",
    "budget_id": "bgt",
    "provider_key_id": "pky",
}


_OTHERS = {"version": "1", "template": "nothing", "place": "0"}  # what is no id


def path_of(template: str, unlike: str = "") -> str:
    """Return a route's path with ids that name nothing, or that are this text."""

    def value(found: re.Match[str]) -> str:
        name = found[1]
        return _OTHERS[name] if name in _OTHERS else unlike or f"{_PREFIX[name]}_{NOTHING}"

    return re.sub(r"{(\w+)}", value, template)


def refused(answer: httpx.Response, *codes: int) -> dict[str, Any]:
    """Return the body of a refusal; it is JSON that says what is wrong."""
    expected = codes or range(400, 500)
    assert answer.status_code in expected, f"{answer.status_code} {answer.text}"
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    body: dict[str, Any] = answer.json()
    assert body["message"], body
    info = [each for each in body["details"] if each["@type"].endswith("ErrorInfo")]
    assert [each["domain"] for each in info] == ["gathering"], body
    assert info[0]["reason"], body
    return body


def violations(body: dict[str, Any]) -> dict[str, str]:
    """Return what is wrong with which field."""
    return {
        each["field"]: each["description"]
        for detail in body.get("details", [])
        for each in detail.get("fieldViolations", detail.get("field_violations", []))
    }


@EVERY
async def test_body_that_is_no_json_is_refused(rpc: Rpc, http: httpx.AsyncClient) -> None:
    for verb, template in rpc.routes:
        if verb not in {"post", "patch", "put"}:
            continue
        for body in (b"{", b"nonsense", b'{"a": }', b"[1, 2]", b'"text"', b"\xff\xfe", b"{" * 200):
            answer = await http.request(verb, path_of(template), content=body, headers=JSON)
            refused(answer, 400, 422)


@EVERY
async def test_unknown_query_parameter_is_refused(rpc: Rpc, http: httpx.AsyncClient) -> None:
    for verb, template in rpc.routes:
        answer = await http.request(verb, path_of(template), params={"no_such_field": "1"})
        refused(answer, 400)


@EVERY
async def test_wrong_method_is_refused(rpc: Rpc, http: httpx.AsyncClient) -> None:
    for _, template in rpc.routes:
        refused(await http.request("PUT", path_of(template), content=b"{}"), 404, 405)


@EVERY
async def test_id_of_another_form_is_refused_by_name(rpc: Rpc, http: httpx.AsyncClient) -> None:
    for verb, template in rpc.routes:
        names = set(re.findall(r"{(\w+)}", template)) - set(_OTHERS)
        if not names:
            continue
        path = path_of(template, "rubbish")
        body: Any = {} if verb in {"post", "patch"} else None
        found = violations(refused(await http.request(verb, path, json=body), 400))
        assert names <= set(found), found


@pytest.mark.parametrize(
    "path",
    ["/v1/nothing", "/v1", "/v2/agents", "/v1/agents/", "/v1/agents/x:nothing"],
)
async def test_unknown_path_is_not_found(path: str, http: httpx.AsyncClient) -> None:
    refused(await http.get(path), 400, 404)


@pytest.mark.parametrize(
    "path",
    ["/v1/agents/%ff", "/v1/agents/%00", "/v1/agents?page_token=%ff", "/v1/agents/..%2fusers"],
)
async def test_bytes_that_are_no_text_are_refused(path: str, http: httpx.AsyncClient) -> None:
    refused(await http.get(path))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "agent"),
        ({"agent": {"name": "x" * 101}}, "agent.name"),
        ({"agent": {"name": "x", "max_turn_steps": 201}}, "agent.max_turn_steps"),
        ({"agent": {"competences": [{"name": "UPPER"}]}}, "agent.competences[0].name"),
        ({"agent": {"competences": [{"name": "a", "strength": 2}]}}, "agent.competences"),
        ({"agent": {"name": "x"}, "request_id": "x" * 129}, "request_id"),
    ],
)
async def test_field_out_of_bounds_is_named(
    body: dict[str, Any], field: str, http: httpx.AsyncClient
) -> None:
    found = violations(refused(await http.post("/v1/agents", json=body), 400))
    assert any(path.startswith(field) for path in found), found


@pytest.mark.parametrize(
    "body",
    [
        b'{"agent": {"name": 5}}',
        b'{"agent": {"max_turn_steps": "many"}}',
        b'{"agent": {"max_turn_steps": 99999999999}}',
        b'{"agent": {"competences": {}}}',
        b'{"agent": {"persona": {"communication_style": "LOUD"}}}',
        b'{"agent": {"name": "\xff"}}',
        b'{"agent": {"name": "\\ud800"}}',
        b'{"agent": {"name": "a\\u0000b"}}',
    ],
)
async def test_value_of_another_type_is_refused(body: bytes, http: httpx.AsyncClient) -> None:
    refused(await http.post("/v1/agents", content=body, headers=JSON), 400)


@pytest.mark.parametrize("size", ["-1", "201", "many", "1.5", ""])
async def test_page_size_that_is_none_is_refused(size: str, http: httpx.AsyncClient) -> None:
    refused(await http.get("/v1/agents", params={"page_size": size}), 400)


async def test_body_that_is_too_large_is_refused(maker: Maker, http: httpx.AsyncClient) -> None:
    session_id = await maker.session()
    for size in (100_001, 5_000_000):
        body = {"text": "x" * size}
        refused(await http.post(f"/v1/sessions/{session_id}/turns", json=body), 400, 413, 429)


async def test_unknown_field_of_a_body_is_ignored(http: httpx.AsyncClient) -> None:
    """The edge's transcoder has no other way; the documentation says so."""
    answer = await http.post("/v1/memories:recall", json={"query": "x", "nothing": 1})
    assert answer.status_code == 200, answer.text


async def test_json_nested_too_deeply_is_refused(maker: Maker, http: httpx.AsyncClient) -> None:
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    body = f'{{"request_id": "deep", "tool": "fs_read", "arguments": {deep}}}'
    answer = await http.post("/v1/executions", content=body.encode(), headers=JSON)
    refused(answer)
