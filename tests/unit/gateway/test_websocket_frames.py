"""Frames of the WebSocket: what is read, what is refused, and that the contract has them all."""

from __future__ import annotations

import json
from typing import cast

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from gathering.gateway.v1 import websocket_pb2 as pb
from gathering.gateway.v1.event_service_pb2 import EventFrame, SubscribeResponse
from gathering_gateway.convert_contract import read_contract
from gathering_gateway.websocket import convert
from gathering_gateway.websocket.models import Unusable
from gathering_mesh.errors import NotFound
from gathering_mesh.streams import Encoded

MOST = 1000
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
_calls = st.sampled_from([f.name for f in pb.ClientFrame.DESCRIPTOR.fields] + ["other", "filter"])


def refused(data: str | bytes) -> Unusable:
    with pytest.raises(Unusable) as caught:
        convert.read_frame(data, MOST)
    return caught.value


def test_frame_is_read_with_names_of_the_contract_or_of_javascript() -> None:
    for name in ("start_turn", "startTurn"):
        frame = convert.read_frame(json.dumps({"id": "a", name: {"text": "é"}}), MOST)
        assert (frame.id, frame.WhichOneof("call")) == ("a", "start_turn")
        assert frame.start_turn.text == "é"


@pytest.mark.parametrize(
    ("data", "id", "word"),
    [
        (b"{}", "", "binary"),
        ("", "", "no JSON"),
        ("{", "", "no JSON"),
        ("[1]", "", "no JSON object"),
        ("NaN", "", "NaN"),
        ('{"id": "1", "id": "2", "subscribe": {}}', "", "twice"),
        ("[" * 990, "", "no JSON"),
        ("1" * 999 + "0", "", "no JSON"),
        ('{"subscribe": {}}', "", "id"),
        ('{"id": "", "subscribe": {}}', "", "id"),
        ('{"id": 7, "subscribe": {}}', "", "id"),
        (json.dumps({"id": "x" * 65, "subscribe": {}}), "", "id"),
        ('{"id": "1"}', "1", "no call"),
        ('{"id": "1", "subscrbe": {}}', "1", "subscrbe"),
        ('{"id": "1", "subscribe": {"curser": ""}}', "1", "curser"),
        ('{"id": "1", "subscribe": {"cursor": 5}}', "1", "cursor"),
        ('{"id": "1", "subscribe": 5}', "1", "subscribe"),
        ('{"id": "1", "subscribe": {}, "cancel": {}}', "1", "oneof"),
        ('{"id": "1", "start_turn": {"text": "\\ud800"}}', "1", "start_turn"),
        ('{"id": "1", "start_turn": {"text": "%s"}}' % ("é" * 500), "", "1000"),
    ],
)  # fmt: skip
def test_frame_that_cannot_be_used_is_refused_by_name(
    data: str | bytes, id: str, word: str
) -> None:
    error = refused(data)
    assert error.id == id
    assert word in error.error.message
    assert len(error.error.message) < 500


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ({"curser": ""}, "curser"),
        ({"cursor": 5}, "cursor"),
        (5, "subscribe"),
        ({"filter": {"types": "x"}}, "filter.types"),
        ({"filter": {"types": ["a", 5]}}, "filter.types"),
        ({"filter": {"typs": []}}, "filter.typs"),
    ],
)
def test_field_that_cannot_be_read_is_named(call: object, field: str) -> None:
    error = refused(json.dumps({"id": "1", "subscribe": call})).error
    assert set(error.fields) == {field}
    assert all(error.fields.values())


@given(st.text() | _json.map(json.dumps))
def test_any_text_is_a_frame_or_is_refused(text: str) -> None:
    with pytest.raises(Unusable):
        convert.read_frame(text, MOST)


@given(_calls, _json)
def test_any_call_is_a_frame_or_is_refused(name: str, content: object) -> None:
    text = json.dumps({"id": "1", name: content})
    try:
        assert convert.read_frame(text, MOST).WhichOneof("call")
    except Unusable as error:
        assert error.error.message


def test_frames_of_the_server_are_of_the_contract() -> None:
    answer = pb.Answer()
    answer.subscribe.checkpoint.cursor = "c"
    for text in (
        convert.Texts().answer("1", "subscribe", answer.subscribe),
        convert.end_text("1"),
        convert.error_text("1", NotFound("gone", fields={"a": "b"}), "req_1"),
        convert.reconnect_text("draining"),
    ):
        frame = json_format.Parse(text, pb.ServerFrame())
        assert frame.WhichOneof("frame"), text
    error = json.loads(convert.error_text("1", NotFound("gone"), "req_1"))["error"]
    assert error["code"] == 5
    assert error["details"][0]["metadata"] == {"request_id": "req_1"}


def test_every_stream_that_clients_have_is_a_call() -> None:
    streamed = {
        r.full_name.rpartition(".")[2] for r in read_contract().rpcs() if r.streamed and r.routes
    }
    calls = {f.name for f in pb.ClientFrame.DESCRIPTOR.oneofs_by_name["call"].fields} - {"cancel"}
    assert streamed <= {"".join(map(str.capitalize, name.split("_"))) for name in calls}
    answers = {f.name for f in pb.Answer.DESCRIPTOR.fields}
    assert answers == calls


def _event(cursor: str) -> SubscribeResponse:
    return SubscribeResponse(event=EventFrame(cursor=cursor))


def test_event_of_many_subscribers_is_converted_once_and_each_gets_its_own_id() -> None:
    event = _event("c")
    read: list[bytes] = []

    class Counted:
        @staticmethod
        def FromString(data: bytes) -> Message:
            read.append(data)
            return type(event).FromString(data)

    texts = convert.Texts()
    shared = [Encoded(cast("type[Message]", Counted), event.SerializeToString()) for _ in range(2)]
    first = json.loads(texts.answer('a"b', "subscribe", shared[0]))
    second = json.loads(texts.answer("2", "subscribe", shared[1]))
    assert (first["id"], second["id"]) == ('a"b', "2")
    assert first["message"] == second["message"]
    assert first["message"]["subscribe"]["event"]["cursor"] == "c"
    assert len(read) == 1


def test_answers_that_are_kept_are_few() -> None:
    texts = convert.Texts()
    for number in range(200):
        event = _event(str(number))
        texts.answer("1", "subscribe", Encoded.of(event))
    assert len(texts._kept) < 100
