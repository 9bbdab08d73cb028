"""Search hyperparameters at random; results are lines of JSON in a file, from which a second run goes on."""

import argparse
import hashlib
import json
import os

import numpy as np
from spotlight.cross_validation import random_train_test_split
from spotlight.evaluation import mrr_score, rmse_score
from spotlight.factorization.explicit import ExplicitFactorizationModel
from spotlight.factorization.implicit import ImplicitFactorizationModel
from spotlight.interactions import Interactions

CHOICES = {
    "embedding_dim": [4, 8, 16],
    "learning_rate": [1e-3, 1e-2, 5e-2],
    "l2": [0.0, 1e-6, 1e-4],
    "batch_size": [64, 256],
    "n_iter": [2, 5],
    "loss": ["bpr", "hinge", "adaptive_hinge", "pointwise", "regression"],
}


class Results:
    """Finished trials, by a hash of their hyperparameters."""

    def __init__(self, filename):
        self._filename = filename
        open(filename, "a+").close()

    @staticmethod
    def hash(hyperparameters):
        return hashlib.md5(json.dumps(hyperparameters, sort_keys=True).encode("utf-8")).hexdigest()

    def save(self, hyperparameters, **scores):
        result = {**hyperparameters, **scores, "hash": self.hash(hyperparameters)}
        with open(self._filename, "a+") as out:
            out.write(json.dumps(result) + "\n")

    def __iter__(self):
        with open(self._filename) as lines:
            for line in lines:
                yield json.loads(line)

    def __contains__(self, hyperparameters):
        return any(result["hash"] == self.hash(hyperparameters) for result in self)


def sample(random_state, number):
    for _ in range(number):
        yield {name: values[random_state.randint(len(values))] for name, values in CHOICES.items()}


def evaluate(hyperparameters, train, validation, test, random_state):
    model_class = ExplicitFactorizationModel if hyperparameters["loss"] == "regression" else ImplicitFactorizationModel
    model = model_class(random_state=random_state, **hyperparameters)
    model.fit(train)
    scores = {
        "validation_mrr": mrr_score(model, validation, train=train).mean(),
        "test_mrr": mrr_score(model, test, train=train.tocsr() + validation.tocsr()).mean(),
    }
    if hyperparameters["loss"] == "regression":
        scores["test_rmse"] = rmse_score(model, test)
    return scores


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("--trials", type=int, default=4)
    options = parser.parse_args()

    random_state = np.random.RandomState(100)
    users = random_state.randint(0, 50, size=2000)
    items = (users // 10) * 10 + random_state.randint(0, 20, size=2000)  # neighbours share items
    ratings = random_state.randint(1, 6, size=2000).astype(np.float32)
    train, rest = random_train_test_split(Interactions(users, items, ratings), random_state=random_state)
    test, validation = random_train_test_split(rest, test_percentage=0.5, random_state=random_state)

    results = Results(options.results)
    for hyperparameters in sample(random_state, options.trials):
        if hyperparameters in results:
            print("done before:", os.path.basename(options.results), Results.hash(hyperparameters))
            continue
        scores = evaluate(hyperparameters, train, validation, test, np.random.RandomState(1))
        results.save(hyperparameters, **scores)
        print("trial:", json.dumps(scores))

    best = max(results, key=lambda result: result["validation_mrr"])
    print("best:", json.dumps(best))


if __name__ == "__main__":
    main()
