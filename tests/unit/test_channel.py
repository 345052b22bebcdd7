"""The workload's channel: what is answered, what is refused, what breaks it."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from laminator.cbor import Value, decode, encode
from laminator.claims import Property
from laminator.errors import MalformedError
from laminator.run.channel import MAX_MESSAGE_BYTES, MAX_MESSAGES, Names, serve

NAMES = Names(
    {"train": "/data/train.csv", "shards": "/data/shards"},
    {"model": "/out/model.bin"},
    leaves={"shards": ("/laminator/leaves/1.leaves", "sha-256:00")},
)
LOSS: dict[str, Any] = {
    "op": "report",
    "name": "loss",
    "value": 0.5,
    "on": ["train"],
    "unit": None,
    "parameters": {},
}


class Peer:
    """A workload's end of the channel and the attester that serves it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.socket.settimeout(20)
        self.ended = os.eventfd(0)
        self._pool = ThreadPoolExecutor(1)
        self._theirs = theirs
        self._result: Future[tuple[Property, ...]] = self._pool.submit(
            self._serve, theirs, self.ended
        )

    @staticmethod
    def _serve(theirs: socket.socket, ended: int) -> tuple[Property, ...]:
        with theirs:
            return serve(theirs, NAMES, ended)

    def say(self, body: bytes) -> dict[Any, Value]:
        self.socket.sendall(struct.pack(">I", len(body)) + body)
        return self.answer()

    def answer(self) -> dict[Any, Value]:
        size = struct.unpack(">I", self.socket.recv(4, socket.MSG_WAITALL))[0]
        reply = decode(self.socket.recv(size, socket.MSG_WAITALL))
        assert isinstance(reply, dict)
        return reply

    def ask(self, **message: Any) -> dict[Any, Value]:
        return self.say(encode(message))

    def result(self) -> tuple[Property, ...]:
        self.socket.close()
        return self._result.result(20)

    def close(self) -> None:
        self.socket.close()
        self._pool.shutdown()
        os.close(self.ended)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


def test_paths_of_inputs_and_outputs(peer: Peer) -> None:
    assert peer.ask(op="input", name="train") == {"ok": "/data/train.csv"}
    assert peer.ask(op="output", name="model") == {"ok": "/out/model.bin"}
    assert peer.result() == ()


def test_leaves_of_what_is_read_in_place(peer: Peer) -> None:
    leaves = peer.ask(op="leaves", name="shards")
    assert leaves == {"ok": ("/laminator/leaves/1.leaves", "sha-256:00")}
    assert peer.ask(op="leaves", name="train") == {"ok": None}
    assert peer.ask(op="leaves", name="model")["refused"] == "channel.name"
    assert peer.ask(op="leaves")["refused"] == "channel.fields"
    assert peer.result() == ()


def test_a_seed_where_the_run_has_none(peer: Peer) -> None:
    assert peer.ask(op="seed")["refused"] == "channel.seed"
    assert peer.ask(op="seed", name="train")["refused"] == "channel.fields"
    assert peer.result() == ()


def test_a_statement_is_reported_by_the_workload(peer: Peer) -> None:
    assert peer.ask(**LOSS) == {"ok": None}
    assert peer.result() == (Property("loss", 0.5, "reported", "workload", ("train",)),)


def test_statements_keep_their_order_and_parameters(peer: Peer) -> None:
    for epoch in (2, 1):
        assert "ok" in peer.ask(**(LOSS | {"parameters": {"epoch": epoch}}))
    assert [item.parameters["epoch"] for item in peer.result()] == [2, 1]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"source": "measured"}, "channel.fields"),
        ({"measurer": "accuracy"}, "channel.fields"),
        ({"interval": {}}, "channel.fields"),
        ({"op": "measure"}, "channel.op"),
        ({"op": None}, "channel.op"),
        ({"name": "two words"}, "field.type"),
        ({"name": "x" * 101}, "field.type"),
        ({"name": 7}, "field.type"),
        ({"value": float("nan")}, "field.type"),
        ({"value": float("inf")}, "field.type"),
        ({"value": float("-inf")}, "field.type"),
        ({"value": 2**60}, "field.type"),
        ({"value": -(2**60)}, "field.type"),
        ({"value": [1, {"deep": float("nan")}]}, "field.type"),
        ({"on": ["labels"]}, "channel.on"),
        ({"on": "train"}, "field.type"),
        ({"unit": 1}, "field.type"),
        ({"parameters": {1: 2}}, "field.type"),
        ({"parameters": []}, "field.type"),
    ],
)
def test_a_refused_statement_leaves_nothing(peer: Peer, change: dict[str, Any], code: str) -> None:
    assert peer.ask(**(LOSS | change))["refused"] == code
    assert peer.ask(**(LOSS | {"name": "after"})) == {"ok": None}
    assert [item.name for item in peer.result()] == ["after"]


def test_a_statement_is_made_once(peer: Peer) -> None:
    peer.ask(**LOSS)
    assert peer.ask(**(LOSS | {"value": 0.1}))["refused"] == "channel.twice"
    assert [item.value for item in peer.result()] == [0.5]


def test_statements_are_bounded_together(peer: Peer) -> None:
    text = ["x" * 4000] * 15
    answers = [peer.ask(**(LOSS | {"name": f"n{i}", "value": text})) for i in range(100)]
    refused = [answer for answer in answers if "refused" in answer]
    assert {answer["refused"] for answer in refused} == {"channel.total"}
    assert 0 < len(refused) == 100 - len(peer.result())


@pytest.mark.parametrize("operation", ["input", "output"])
def test_an_unknown_name_is_refused(peer: Peer, operation: str) -> None:
    assert peer.ask(op=operation, name="labels")["refused"] == "channel.name"
    assert peer.ask(op=operation, name=1)["refused"] == "channel.fields"
    assert peer.ask(op=operation)["refused"] == "channel.fields"


def test_a_message_that_is_no_map_is_refused(peer: Peer) -> None:
    assert peer.say(encode([1, 2]))["refused"] == "channel.message"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xa2",
        b"\x18\x01",  # a longer integer than needed
        b"\xa2\x61\x62\x01\x61\x61\x02",  # keys out of order
        b"\xa2\x61\x61\x01\x61\x61\x02",  # a key twice
        b"\xbf\xff",  # indefinite length
        b"\xc1\x00",  # a tag
        b"\x81" * 40 + b"\x00",  # too deep
    ],
)
def test_other_bytes_break_the_channel(peer: Peer, body: bytes) -> None:
    peer.socket.sendall(struct.pack(">I", len(body)) + body)
    with pytest.raises(MalformedError):
        peer._result.result(20)
    assert peer.socket.recv(1) == b""


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_an_oversized_message_breaks_the_channel(peer: Peer, size: int) -> None:
    peer.socket.sendall(struct.pack(">I", size))
    with pytest.raises(MalformedError) as caught:
        peer._result.result(20)
    assert caught.value.code == "channel.size"


@pytest.mark.parametrize("sent", [b"\0", b"\0\0\0\x05", b"\0\0\0\x05abc"])
def test_a_message_cut_off_breaks_the_channel(peer: Peer, sent: bytes) -> None:
    peer.socket.sendall(sent)
    with pytest.raises(MalformedError) as caught:
        peer.result()
    assert caught.value.code == "channel.cut"


def test_a_flood_breaks_the_channel(peer: Peer) -> None:
    body = encode({"op": "input", "name": "train"})
    message = struct.pack(">I", len(body)) + body
    for _ in range(MAX_MESSAGES // 100):
        peer.socket.sendall(message * 100)
        for _ in range(100):
            peer.answer()
    with pytest.raises(MalformedError) as caught:
        peer._result.result(20)
    assert caught.value.code == "channel.count"


def test_replies_that_nobody_reads_break_the_channel(peer: Peer) -> None:
    body = encode({"op": "input", "name": "train"})
    with contextlib.suppress(OSError):
        for _ in range(MAX_MESSAGES):
            peer.socket.sendall(struct.pack(">I", len(body)) + body)
    with pytest.raises(MalformedError) as caught:
        peer._result.result(20)
    assert caught.value.code == "channel.unread"


def test_the_end_of_the_workload_ends_the_service(peer: Peer) -> None:
    """A grandchild that keeps the channel open cannot keep the attester waiting."""
    peer.ask(**LOSS)
    os.eventfd_write(peer.ended, 1)
    assert [item.name for item in peer._result.result(20)] == ["loss"]
