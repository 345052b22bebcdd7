"""The digits model's code: architecture, preprocessing, loading and predicting.

`laminator evaluate --model-code` measures this file and calls `load` and `predict` in a
process that sees features only.
"""

import numpy as np
import torch
from safetensors.torch import load_file

PIXELS = [f"pixel_{index}" for index in range(64)]
CLASSES = 10


def architecture():
    return torch.nn.Sequential(
        torch.nn.Linear(len(PIXELS), 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, CLASSES),
    )


def preprocess(batch):
    pixels = np.stack([batch[name] for name in PIXELS], axis=1)
    return torch.from_numpy(pixels.astype(np.float32)) / 16


def load(path):
    model = architecture()
    model.load_state_dict(load_file(path))
    return model.eval()


def predict(model, batch):
    with torch.no_grad():
        return model(preprocess(batch)).softmax(dim=1).numpy()
