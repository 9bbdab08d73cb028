"""Draw how good models of several sizes are."""

import sys
from os.path import basename, dirname

import bars
import numpy as np
from spotlight import cross_validation, evaluation, interactions
from spotlight.factorization import implicit

random_state = np.random.RandomState(int(sys.argv[1]))
users = random_state.randint(0, 60, size=1500)
items = (users * 7 + random_state.randint(0, 8, size=1500)) % 50
dataset = interactions.Interactions(users, items)
train, test = cross_validation.random_train_test_split(dataset, random_state=random_state)

quality = {}
for dim in map(int, sys.argv[2:]):
    model = implicit.ImplicitFactorizationModel(loss="bpr", embedding_dim=dim, n_iter=10, random_state=random_state)
    model.fit(train)
    quality[f"{dim} numbers"] = evaluation.mrr_score(model, test).mean()
print("\n".join(bars.draw(quality)))
print("chart by:", basename(dirname(bars.__file__)), basename(bars.__file__))
