"""Write a synthetic Parquet data set of any size: the same bytes for the same arguments.

    python examples/make_stream.py shards --mib 2048

Sixteen features and a label that depends on them; one row takes 65 bytes. Needs numpy and pyarrow.
"""

import argparse
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = 16
ROW_BYTES = 4 * FEATURES + 1
GROUP_ROWS = 16_384
SHARD_MIB = 64


def write_shard(path, number, rows):
    random = np.random.default_rng(number)
    weights = np.linspace(-1, 1, FEATURES, dtype=np.float32)
    with pq.ParquetWriter(path, schema(), compression="zstd", use_dictionary=False) as writer:
        for start in range(0, rows, GROUP_ROWS):
            count = min(GROUP_ROWS, rows - start)
            x = random.standard_normal((count, FEATURES), dtype=np.float32)
            y = (x @ weights + 0.1 * random.standard_normal(count, dtype=np.float32) > 0).astype(
                np.uint8
            )
            columns = [*np.ascontiguousarray(x.T), y]
            writer.write_table(pa.table(columns, schema=schema()), row_group_size=GROUP_ROWS)


def schema():
    fields = [pa.field(f"x{number}", pa.float32()) for number in range(FEATURES)]
    return pa.schema([*fields, pa.field("y", pa.uint8())])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--mib", type=int, default=2048, help="size of the whole data set")
    parser.add_argument("--shard-mib", type=int, default=SHARD_MIB, help="size of one file")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    rows = options.shard_mib * (1 << 20) // ROW_BYTES
    for number in range(-(-options.mib // options.shard_mib)):
        write_shard(options.folder / f"part-{number:05}.parquet", number, rows)


if __name__ == "__main__":
    main()
