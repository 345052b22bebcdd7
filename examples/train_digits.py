"""Trains a small network on handwritten digits.

    laminator run --simulated --input train=train.csv --output model=digits.safetensors \
        --card digits.card -- python examples/train_digits.py

The script learns from `workload` where its input and output are, and says what it
trained with; the card repeats that as `reported`, because it is this script's word.
"""

import numpy as np
import torch
from digits_model import PIXELS, architecture, preprocess
from safetensors.torch import save_file

from laminator import workload

SEED = 7
EPOCHS = 30
LEARNING_RATE = 0.003
BATCH = 64


def read(path):
    with open(path, encoding="ascii") as file:
        names = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    columns = dict(zip(names, table.T, strict=True))
    labels = torch.from_numpy(columns["label"]).long()
    return preprocess({name: columns[name] for name in PIXELS}), labels


def train(model, pixels, labels):
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    total = 0.0
    for _ in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(labels)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(pixels[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
    return total / len(labels)


def main():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    workload.hyperparameters(
        {"seed": SEED, "epochs": EPOCHS, "learning-rate": LEARNING_RATE, "batch": BATCH}
    )
    pixels, labels = read(workload.input("train"))
    model = architecture()
    loss = train(model, pixels, labels)
    save_file(model.state_dict(), workload.output("model"))
    workload.report("loss", loss, on=["train"])
    print(f"trained on {len(labels)} digits, loss {loss:.4f}")


if __name__ == "__main__":
    main()
