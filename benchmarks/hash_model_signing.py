"""A folder of four files, 2 GiB, measured by Laminator and signed by PyPI's model-signing.

MODEL_SIGNING_PYTHON names the interpreter of an environment with model-signing 1.1 in it:

    python -m venv ENV && ENV/bin/pip install model-signing pyopenssl

Both its ways with SHA-256 take part, by file and by shard; the faster of the two is the peer. All
are whole processes, start and imports included.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks.spawned import MEBIBYTE, fill, take_turns
from benchmarks.timing import Report, arguments, show

PYTHON = os.environ.get("MODEL_SIGNING_PYTHON", "")
FILE_BYTES = 512 * MEBIBYTE
OWN, TREE = "laminator", "laminator, with tree"
PEERS = ("model-signing, by file", "model-signing, by shard")
MEASURE = "import sys; from laminator.measure.files import measure_path as m; m(sys.argv[1])"
MEASURE_TREE = MEASURE.replace("files import measure_path", "tree import measure_tree")
SIGN = """
import sys
import model_signing
hashing = model_signing.hashing.Config()
{how}
signing = model_signing.signing.Config().use_elliptic_key_signer(private_key=sys.argv[2])
signing.set_hashing_config(hashing).sign(sys.argv[1], sys.argv[3])
"""
WAYS = ("hashing.use_file_serialization()", "hashing.use_shard_serialization()")


def measure(rounds: int) -> Report:
    """Let all take turns on the same folder."""
    with tempfile.TemporaryDirectory() as name:
        model, key, signature = Path(name, "model"), Path(name, "key.pem"), Path(name, "model.sig")
        model.mkdir()
        for number in range(4):
            fill(str(model / f"shard-{number}"), FILE_BYTES, number)
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        key.write_bytes(pem)
        commands = {
            OWN: [sys.executable, MEASURE, str(model)],
            TREE: [sys.executable, MEASURE_TREE, str(model)],
        }
        for peer, how in zip(PEERS, WAYS, strict=True):
            code = SIGN.format(how=how)
            commands[peer] = [PYTHON, code, str(model), str(key), str(signature)]
        spent = take_turns(commands, rounds)
    seconds = {name: statistics.median(one.seconds for one in spent[name]) for name in spent}
    processor = {name: statistics.median(one.processor for one in spent[name]) for name in spent}
    memory = {name: max(one.memory for one in spent[name]) for name in spent}
    peer = min(PEERS, key=seconds.__getitem__)
    return Report(
        name="hash_model_signing",
        unit="s",
        rounds=rounds,
        medians={
            **seconds,
            **{f"{name}: processor time": value for name, value in processor.items()},
        },
        results={
            "speed of model-signing (at least 1.3)": seconds[peer] / seconds[OWN],
            "speed of model-signing, with tree": seconds[peer] / seconds[TREE],
            "peak memory, of model-signing's": memory[OWN] / memory[peer],
            **{f"{name}: peak MiB": value for name, value in memory.items()},
        },
        targets={"peak memory, of model-signing's": 0.7},
    )


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=5)
    if not PYTHON:
        sys.exit("name the interpreter of an environment with model-signing: MODEL_SIGNING_PYTHON")
    show(measure(options.rounds), as_json=options.json)
