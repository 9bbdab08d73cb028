"""Fit models in processes of their own."""

import multiprocessing
import sys

import numpy as np
from spotlight.evaluation import mrr_score
from spotlight.factorization.implicit import ImplicitFactorizationModel
from spotlight.interactions import Interactions

DATASET = Interactions(np.arange(200) % 20, np.arange(200) % 30)


def quality(dim):
    model = ImplicitFactorizationModel(loss="bpr", embedding_dim=dim, n_iter=3, random_state=np.random.RandomState(dim))
    model.fit(DATASET)
    return mrr_score(model, DATASET).mean()


if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        there = pool.map(quality, [4, 8])
    print("the same here:", there == [quality(4), quality(8)])
    print("with:", sys.argv[1])
