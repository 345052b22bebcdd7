"""Train on Parquet shards that are larger than memory, with two DataLoader workers.

    python examples/make_stream.py shards --mib 2048
    laminator run --simulated --stream train=shards --output model=stream.safetensors \
        -- python examples/train_stream.py

Each worker reads row groups in a random order through `laminator.data`, which checks every chunk
against what the attester measured. Needs laminator[ml,data].
"""

import argparse

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from laminator import workload
from laminator.data import measured


class RowGroups(Dataset):
    """The row groups of a folder of Parquet files, one item each: features and labels."""

    def __init__(self, folder):
        self.folder = folder
        self.places = []
        for name in folder:
            groups = pq.ParquetFile(folder[name]).num_row_groups
            self.places += [(name, group) for group in range(groups)]

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        name, group = self.places[index]
        table = pq.ParquetFile(self.folder[name]).read_row_group(group, use_threads=False)
        *features, labels = (column.to_numpy() for column in table.columns)
        x = np.stack(features, axis=1)
        return torch.from_numpy(x), torch.from_numpy(labels.astype(np.float32))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1024)
    options = parser.parse_args()

    torch.manual_seed(0)
    dataset = RowGroups(measured("train"))
    loader = DataLoader(
        dataset,
        batch_size=None,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    model = torch.nn.Linear(dataset[0][0].shape[1], 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workload.hyperparameters({"epochs": options.epochs, "batch": options.batch, "lr": 0.1})
    for epoch in range(options.epochs):
        total = rows = 0
        for x, y in loader:
            for part, labels in zip(x.split(options.batch), y.split(options.batch), strict=True):
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    model(part).squeeze(1), labels
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(labels)
                rows += len(labels)
        print(f"epoch {epoch}: loss {total / rows:.4f} over {rows} rows")
        workload.report(
            "loss", total / rows, on=["train"], unit="nats", parameters={"epoch": epoch}
        )
    save_file(model.state_dict(), workload.output("model"))


if __name__ == "__main__":
    main()
