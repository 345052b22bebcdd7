"""What the driver, the attester and the measurer tell each other: requests, orders, results."""

from enclave_sim.adversary.forged_claims import claims
from harnesses.harness import Harness, check_refusal, parsed
from harnesses.mutation import mutate_as_cbor
from laminator.cbor import decode, encode
from laminator.claims import Property
from laminator.claims_codec import plain_property
from laminator.digest import sha256
from laminator.errors import LaminatorError
from laminator.run.evaluation import Evaluation, parse_evaluation, plain_evaluation
from laminator.run.measurement import (
    Copied,
    Measurement,
    Orders,
    encode_orders,
    parse_orders,
)
from laminator.run.measurer import parse_result
from laminator.run.request import RunRequest, encode_request, parse_request

WORDS = ("measurement", "properties", "accuracy", "error", "usage", "argv", "options", "verb")


def check(data: bytes) -> bool:
    """What any of the parsers takes encodes to the same bytes."""
    request = parsed(parse_request, data)
    if request is not None:
        assert encode_request(request) == data
        parsed(lambda _: parse_evaluation(request.options), data, LaminatorError)
    orders = parsed(parse_orders, data, LaminatorError)
    if orders is not None:
        assert encode_orders(orders) == data
    result = _result(data)
    if result is not None:
        assert encode({"properties": list(map(plain_property, result))}) == data
    return any(found is not None for found in (request, orders, result))


def seeds() -> list[bytes]:
    """Return requests of both verbs, orders and results."""
    measurement = Measurement(("accuracy",), ".csv", "label", sensitive=("sex",), header=("a", "b"))
    copied = Copied("/copies/data", sha256(b"data"))
    run = RunRequest(
        "run", ("/usr/bin/python3", "-B", "train.py", "-n=1"), 2, "/home", "training", "/c"
    )
    full = run._replace(
        inputs={"train": "/data/train.csv"},
        outputs={"model": "/out/model"},
        cards={"train": "/cards/train.card"},
        nonce=b"n" * 8,
        plan="/plan.toml",
        declares={"licence": "CC0"},
        environment={"LANG": "C.UTF-8"},
        label="customer",
        ledger="/runs.jsonl",
        options=plain_evaluation(Evaluation(measurement, "test", has_code=True, seconds=60)),
    )
    return [
        encode_request(run),
        encode_request(full),
        encode_orders(Orders(measurement, copied, None, ("model", "test"))),
        encode_orders(Orders(measurement, copied, copied, ())),
        encode({"properties": list(map(plain_property, claims().properties))}),
        encode({"properties": []}),
    ]


def _result(data: bytes) -> tuple[Property, ...] | None:
    """Return the properties of a measurer's result, None for an error: its words are its own."""
    try:
        return parse_result(data)
    except LaminatorError as error:
        if not _is_error(data):
            check_refusal(error)
        return None


def _is_error(data: bytes) -> bool:
    plain = parsed(decode, data)
    return isinstance(plain, dict) and "error" in plain


HARNESS = Harness(check, seeds, mutate_as_cbor, WORDS)
