"""Rate and rank made-up films with factorization models."""

import argparse

import numpy as np
from spotlight.cross_validation import random_train_test_split, user_based_train_test_split
from spotlight.evaluation import mrr_score, precision_recall_score, rmse_score
from spotlight.factorization.explicit import ExplicitFactorizationModel
from spotlight.factorization.implicit import ImplicitFactorizationModel
from spotlight.interactions import Interactions

NUM_USERS, NUM_ITEMS, TASTES = 120, 80, 4


def make_ratings(random_state):
    """Every user likes the items of one taste, and has seen more of those."""
    user_taste = random_state.randint(TASTES, size=NUM_USERS)
    item_taste = random_state.randint(TASTES, size=NUM_ITEMS)
    match = user_taste[:, np.newaxis] == item_taste
    seen = random_state.rand(NUM_USERS, NUM_ITEMS) < np.where(match, 0.6, 0.05)
    users, items = np.nonzero(seen)
    ratings = np.where(match[users, items], 4.5, 2.0) + 0.3 * random_state.randn(len(users))
    return Interactions(
        users.astype(np.int32),
        items.astype(np.int32),
        ratings=ratings.astype(np.float32),
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
    )


def explicit(interactions, seed):
    train, test = random_train_test_split(interactions, random_state=np.random.RandomState(seed))
    model = ExplicitFactorizationModel(
        loss="regression",
        embedding_dim=16,
        n_iter=20,
        batch_size=128,
        l2=1e-5,
        learning_rate=1e-2,
        use_cuda=False,
        random_state=np.random.RandomState(seed),
    )
    model.fit(train, verbose=True)
    print("spread of test ratings:", test.ratings.std())
    print("train rmse:", rmse_score(model, train))
    print("test rmse:", rmse_score(model, test))
    print("rating of one item by one user:", model.predict(test.user_ids[:1], test.item_ids[:1])[0])


def implicit(interactions, loss, seed):
    train, test = random_train_test_split(interactions, random_state=np.random.RandomState(seed))
    model = ImplicitFactorizationModel(
        loss=loss,
        embedding_dim=16,
        n_iter=15,
        batch_size=128,
        learning_rate=1e-2,
        num_negative_samples=4,
        random_state=np.random.RandomState(seed),
    )
    model.fit(train)
    precision, recall = precision_recall_score(model, test, train=train, k=5)
    print(f"{loss} mrr:", mrr_score(model, test, train=train).mean())
    print(f"{loss} precision:", precision.mean())
    print(f"{loss} recall:", recall.mean())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("losses", nargs="*", default=["pointwise", "bpr", "hinge", "adaptive_hinge"])
    options = parser.parse_args()

    interactions = make_ratings(np.random.RandomState(options.seed))
    print(interactions)
    explicit(interactions, options.seed)
    for loss in options.losses:
        implicit(interactions, loss, options.seed)

    train, test = user_based_train_test_split(interactions, 0.3, random_state=np.random.RandomState(options.seed))
    print("users in both parts:", len(np.intersect1d(train.user_ids, test.user_ids)))


if __name__ == "__main__":
    main()
