"""Time-stamping over HTTP (RFC 3161, 3.4)."""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Protocol

from laminator.errors import MachineError, UsageError, shown
from laminator.evidence.timestamp_reply import MAX_REPLY
from laminator.timestamp.refusal import TimestampRefusedError

QUERY_TYPE = "application/timestamp-query"
REPLY_TYPE = "application/timestamp-reply"
SECONDS = 30.0
"""How long one answer may take in all."""

# No handler of redirections: a request goes only where it was sent. None of other protocols.
_HANDLERS = (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
)
_CHUNK = 16 * 1024
_OK = 200
_BY_HAND = (
    "; try again or another --tsa, or send a request by hand: "
    "laminator timestamp request, laminator timestamp attach"
)


class _Response(Protocol):
    """The part of http.client.HTTPResponse that is used here."""

    def read1(self, size: int, /) -> bytes: ...


def check_url(url: str) -> str:
    """Return an authority's http or https address. Raises UsageError."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError("timestamp.url", f"--tsa {shown(url)}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError("timestamp.url", f"--tsa {shown(url)}: expected http://… or https://…")
    if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
        detail = "--tsa: expected an address in ASCII without a user's name and password"
        raise UsageError("timestamp.url", detail)
    return url


def ask(url: str, query: bytes) -> bytes:
    """Send a request and return the response's body, unread, of at most 64 KiB.

    Raises UsageError for an address that is none, MachineError where no answer comes,
    TimestampRefusedError for an answer that is no time-stamping response.
    """
    headers = {"Content-Type": QUERY_TYPE, "Accept": REPLY_TYPE, "User-Agent": "laminator"}
    request = urllib.request.Request(check_url(url), query, headers, method="POST")  # noqa: S310
    deadline = time.monotonic() + SECONDS
    try:
        with _opener().open(request, timeout=SECONDS) as answer:
            if answer.status != _OK:
                raise _bad_status(answer.status)
            _check_type(answer.headers.get_content_type())
            return _body(answer, deadline)
    except urllib.error.HTTPError as error:
        error.close()
        raise _bad_status(error.code) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        detail = f"no answer from {shown(url)}: {shown(str(reason))}{_BY_HAND}"
        raise MachineError("timestamp.http", detail) from error


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    return opener


def _bad_status(status: int) -> TimestampRefusedError:
    redirects = 300 <= status < 400  # noqa: PLR2004 - HTTP's classes
    kind = "a redirection, which is not followed" if redirects else "no token"
    detail = f"the server answered with status {status}: {kind}{_BY_HAND}"
    return TimestampRefusedError("timestamp.http", detail)


def _check_type(content_type: str) -> None:
    if content_type != REPLY_TYPE:
        detail = f"the server answered with {shown(content_type)}, not {REPLY_TYPE}: "
        detail += f"is the address a time-stamping authority's?{_BY_HAND}"
        raise TimestampRefusedError("timestamp.http", detail)


def _body(answer: _Response, deadline: float) -> bytes:
    body = bytearray()
    while part := answer.read1(_CHUNK):
        body += part
        if len(body) > MAX_REPLY:
            detail = f"the server answered with more than {MAX_REPLY} bytes{_BY_HAND}"
            raise TimestampRefusedError("timestamp.http", detail)
        if _seconds_left(deadline) < 0:
            raise TimeoutError(f"not complete after {SECONDS:.0f} s")
    return bytes(body)


def _seconds_left(deadline: float) -> float:
    return deadline - time.monotonic()
