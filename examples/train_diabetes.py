"""Trains a logistic regression and exports it whole: evaluating it needs no model code.

    laminator run --simulated --input train=train.csv --output model=diabetes.pt2 \
        --card diabetes.card -- python examples/train_diabetes.py train.csv diabetes.pt2

The model does not get the column `sex`; evaluated with `--sensitive sex`, the card counts each
group's accuracy apart.
"""

import sys

import numpy as np
import torch

SEED = 1
STEPS = 500
LEARNING_RATE = 0.02
LABEL = "high"
SENSITIVE = "sex"


class Classifier(torch.nn.Module):
    """Scales raw measurements by the training data's means and deviations, then scores them."""

    def __init__(self, features):
        super().__init__()
        self.register_buffer("mean", features.mean(dim=0))
        self.register_buffer("deviation", features.std(dim=0))
        self.linear = torch.nn.Linear(features.shape[1], 2)

    def forward(self, features):
        return self.linear((features - self.mean) / self.deviation)


def read(path):
    with open(path, encoding="ascii") as file:
        names = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    columns = dict(zip(names, table.T, strict=True))
    labels = torch.from_numpy(columns.pop(LABEL)).long()
    del columns[SENSITIVE]
    return torch.from_numpy(np.stack(list(columns.values()), axis=1)), labels


def main():
    train, model_path = sys.argv[1:]
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    features, labels = read(train)
    model = Classifier(features)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(model(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(model.eval(), (features,), dynamic_shapes=({0: rows},))
    torch.export.save(program, model_path)
    print(f"trained on {len(labels)} patients, loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
