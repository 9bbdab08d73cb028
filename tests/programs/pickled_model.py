"""Keep fitted models in files, and read them again."""

import os
import pickle
import sys

import numpy as np
import torch
from spotlight.datasets.synthetic import generate_sequential
from spotlight.factorization.explicit import ExplicitFactorizationModel
from spotlight.factorization.implicit import ImplicitFactorizationModel
from spotlight.sequence.implicit import ImplicitSequenceModel

folder = sys.argv[1]
random_state = np.random.RandomState(int(sys.argv[2]))
dataset = generate_sequential(num_users=20, num_items=30, num_interactions=1000, random_state=random_state)

models = {
    "explicit": ExplicitFactorizationModel(n_iter=2, random_state=random_state),
    "implicit": ImplicitFactorizationModel(n_iter=2, random_state=random_state),
    "sequence": ImplicitSequenceModel(n_iter=2, representation="lstm", random_state=random_state),
}
for name, model in models.items():
    asked = [1, 2, 3] if name == "sequence" else 7
    model.fit(dataset.to_sequence() if name == "sequence" else dataset)
    expected = model.predict(asked)

    path = os.path.join(folder, name + ".pt")
    torch.save(model, path)
    loaded = torch.load(path, weights_only=False)
    print(name, "as bytes:", np.array_equal(pickle.loads(pickle.dumps(model)).predict(asked), expected))
    print(name, "from file:", np.array_equal(loaded.predict(asked), expected))

    torch.save(model._net.state_dict(), path)
    model._net.load_state_dict(torch.load(path))
    print(name, "from weights:", np.array_equal(model.predict(asked), expected))
    print(name, "predicts:", repr(float(expected[1:].mean())))
