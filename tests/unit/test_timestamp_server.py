"""Time-stamping over HTTP, with a server of the test's own on the loopback interface."""

import socket
import threading
from collections.abc import Iterator

import pytest
from timestamp_server import Reply, authority, serving, simulated_tsa

from laminator.errors import LaminatorError, MachineError, UsageError
from laminator.evidence.timestamp_reply import MAX_REPLY
from laminator.timestamp import server
from laminator.timestamp.query import make_query
from laminator.timestamp.refusal import TimestampRefusedError
from laminator.timestamp.server import ask

QUERY = b"a request"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def _error(url: str) -> LaminatorError:
    with pytest.raises(LaminatorError) as refused:
        ask(url, QUERY)
    return refused.value


def test_the_authoritys_answer_comes_back_whole() -> None:
    query = make_query(b"what is stamped", "sha256").der
    with serving(simulated_tsa) as served:
        reply = ask(served.url, query)
    assert [(each.content_type, each.body) for each in served.asked] == [
        ("application/timestamp-query", query)
    ]
    assert authority().root.subject.rfc4514_string().encode() not in reply
    assert reply[:1] == b"\x30"


@pytest.mark.parametrize("size", [1, MAX_REPLY])
def test_answers_up_to_the_limit_are_taken(size: int) -> None:
    with serving(lambda _: Reply(bytes(size))) as served:
        assert ask(served.url, QUERY) == bytes(size)


def test_a_content_type_may_have_parameters() -> None:
    kind = "Application/Timestamp-Reply; charset=binary"
    with serving(lambda _: Reply(b"x", content_type=kind)) as served:
        assert ask(served.url, QUERY) == b"x"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(bytes(MAX_REPLY + 1)), "more than"),
        (Reply(b"<html>", content_type="text/html"), "'text/html'"),
        (Reply(b"x", status=201), "status 201"),
        (Reply(b"x", status=404), "status 404: no token"),
        (Reply(b"x", status=500), "status 500: no token"),
    ],
)
def test_what_is_no_answer_is_refused(reply: Reply, words: str) -> None:
    with serving(lambda _: reply) as served:
        error = _error(served.url)
    assert (type(error), error.code) == (TimestampRefusedError, "timestamp.http")
    assert words in error.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(status: int) -> None:
    with serving(simulated_tsa) as other:
        moved = Reply(b"", status=status, headers=(("Location", other.url),))
        with serving(lambda _: moved) as served:
            error = _error(served.url)
    assert "redirection" in error.message
    assert (len(served.asked), other.asked) == (1, [])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tsa.example",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://",
        "http://[::1/",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nX: y",
        "http://größe.example/",
    ],
)
def test_an_address_that_is_none_is_a_usage_error(url: str) -> None:
    error = _error(url)
    assert (type(error), error.code) == (UsageError, "timestamp.url")
    assert "secret" not in error.message


def _speaking(words: bytes) -> Iterator[str]:
    """Yield the address of a server that says `words` to whoever comes, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(words)

        thread = threading.Thread(target=speak)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        thread.join()


@pytest.mark.parametrize("words", [b"", b"no HTTP\r\n", b"HTTP/1.0 200\r\n" + b"X: y\r\n" * 200])
def test_a_server_that_speaks_otherwise_is_no_answer(words: bytes) -> None:
    for url in _speaking(words):
        error = _error(url)
        assert (type(error), error.code) == (MachineError, "timestamp.http")
        assert "laminator timestamp request" in error.message


def test_nobody_there_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert _error(f"http://127.0.0.1:{port}/").code == "timestamp.http"


def test_a_server_that_drips_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every octet comes in time, but the whole answer does not."""
    monkeypatch.setattr(server, "_seconds_left", lambda _: -1.0)
    with serving(simulated_tsa) as served:
        error = _error(served.url)
    assert (type(error), error.code) == (MachineError, "timestamp.http")
    assert "not complete" in error.message


def test_a_silent_server_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        error = _error(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    assert (type(error), error.code) == (MachineError, "timestamp.http")
