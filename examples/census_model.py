"""The CENSUS model's code: an MLP over one-hot columns, as in the Laminator paper.

The widths of the hidden layers (its configuration) lie in the weights file's metadata, so that
one digest covers them with the weights.
"""

import itertools
import json

import numpy as np
import torch
from safetensors import safe_open

NUMBERS = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
# Each category's values in order, less the first, which is all zeros: 88 one-hot columns.
CATEGORIES = {
    "workclass": (
        "Federal-gov Local-gov Never-worked Private Self-emp-inc Self-emp-not-inc State-gov "
        "Without-pay"
    ),
    "education": (
        "11th 12th 1st-4th 5th-6th 7th-8th 9th Assoc-acdm Assoc-voc Bachelors Doctorate "
        "HS-grad Masters Preschool Prof-school Some-college"
    ),
    "marital-status": (
        "Married-AF-spouse Married-civ-spouse Married-spouse-absent Never-married Separated Widowed"
    ),
    "occupation": (
        "Adm-clerical Armed-Forces Craft-repair Exec-managerial Farming-fishing Handlers-cleaners "
        "Machine-op-inspct Other-service Priv-house-serv Prof-specialty Protective-serv Sales "
        "Tech-support Transport-moving"
    ),
    "relationship": "Not-in-family Other-relative Own-child Unmarried Wife",
    "native-country": (
        "Cambodia Canada China Columbia Cuba Dominican-Republic Ecuador El-Salvador England "
        "France Germany Greece Guatemala Haiti Holand-Netherlands Honduras Hong Hungary India "
        "Iran Ireland Italy Jamaica Japan Mexico Nicaragua Outlying-US(Guam-USVI-etc) Peru "
        "Philippines Poland Portugal Puerto-Rico Scotland South Taiwan Thailand Trinadad&Tobago "
        "United-States Vietnam Yugoslavia"
    ),
}
HIDDEN = {"S": (128,), "L": (128, 256, 512, 256)}
CLASSES = 2


def architecture(hidden):
    inputs = len(NUMBERS) + sum(len(words.split()) for words in CATEGORIES.values())
    widths = (inputs, *hidden)
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], CLASSES))


def preprocess(batch):
    columns = [np.asarray(batch[name], dtype=np.float32) for name in NUMBERS]
    for name, words in CATEGORIES.items():
        values = np.asarray(batch[name])
        columns += [(values == word).astype(np.float32) for word in words.split()]
    return torch.from_numpy(np.stack(columns, axis=1))


def load(path):
    with safe_open(path, framework="pt") as file:
        configuration = json.loads(file.metadata()["configuration"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = architecture(configuration["hidden"])
    model.load_state_dict(weights)
    return model.eval()


def predict(model, batch):
    with torch.no_grad():
        return model(preprocess(batch)).softmax(dim=1).numpy()
