"""Trains the CENSUS workload's network: an ordinary script that knows nothing of Laminator.

    laminator run --simulated --input train=train.csv --output model=census.safetensors \
        --card census.card -- python examples/train_census.py train.csv census.safetensors

It prints one JSON line; `loop-seconds` is the training loop's own time.
"""

import argparse
import csv
import json
import time

import census_model
import torch
from safetensors.torch import save_file

SEED = 0
LEARNING_RATE = 1e-4
BATCH = 256


def read(path):
    with open(path, encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    batch = {name: [float(row[name]) for row in rows] for name in census_model.NUMBERS}
    batch |= {name: [row[name] for row in rows] for name in census_model.CATEGORIES}
    return batch, torch.tensor([int(row["income"]) for row in rows])


def train(model, features, labels, epochs):
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(features[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def accuracy(model, features, labels):
    with torch.no_grad():
        return (model(features).argmax(dim=1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description="Train the CENSUS network.")
    parser.add_argument("train", help="CSV file from examples/datasets.py census")
    parser.add_argument("model", help="safetensors file to write")
    parser.add_argument("--size", choices=sorted(census_model.HIDDEN), default="S")
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    batch, labels = read(options.train)
    features = census_model.preprocess(batch)
    hidden = census_model.HIDDEN[options.size]
    model = census_model.architecture(hidden)
    start = time.perf_counter()
    train(model, features, labels, options.epochs)
    seconds = time.perf_counter() - start
    configuration = json.dumps({"hidden": hidden})
    save_file(model.state_dict(), options.model, {"configuration": configuration})
    parameters = sum(tensor.numel() for tensor in model.parameters())
    print(
        json.dumps(
            {
                "rows": len(labels),
                "columns": features.shape[1],
                "parameters": parameters,
                "training-accuracy": accuracy(model, features, labels),
                "loop-seconds": seconds,
            }
        )
    )


if __name__ == "__main__":
    main()
