"""Compare full embedding tables with tables compressed by hashing."""

import argparse

import numpy as np
from spotlight.cross_validation import random_train_test_split, user_based_train_test_split
from spotlight.evaluation import mrr_score, sequence_mrr_score
from spotlight.factorization.implicit import ImplicitFactorizationModel
from spotlight.factorization.representations import BilinearNet
from spotlight.interactions import Interactions
from spotlight.layers import BloomEmbedding, ScaledEmbedding
from spotlight.sequence.implicit import ImplicitSequenceModel
from spotlight.sequence.representations import LSTMNet, PoolNet
from spotlight.torch_utils import set_seed

DIM = 16
NUM_USERS, NUM_ITEMS, TASTES = 100, 60, 5
NETWORKS = {"pool": PoolNet, "lstm": LSTMNet}


def make_dataset(random_state):
    """Sixty interactions of every user, most of them with items of the user's taste; item 0 is padding."""
    users = np.repeat(np.arange(NUM_USERS), 60)
    tastes = random_state.randint(TASTES, size=NUM_USERS)[users]
    tastes = np.where(random_state.rand(len(users)) < 0.9, tastes, random_state.randint(TASTES, size=len(users)))
    items = 1 + tastes + TASTES * random_state.randint((NUM_ITEMS - 1) // TASTES, size=len(users))
    return Interactions(users, items, timestamps=np.arange(len(users)), num_users=NUM_USERS, num_items=NUM_ITEMS)


def table(rows, ratio, padding_idx=None):
    if ratio is None:
        return ScaledEmbedding(rows, DIM, padding_idx=padding_idx)
    return BloomEmbedding(rows, DIM, compression_ratio=ratio, num_hash_functions=2, padding_idx=0)


def parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def factorization(dataset, ratio, seed):
    train, test = random_train_test_split(dataset, random_state=np.random.RandomState(seed))
    set_seed(seed)
    net = BilinearNet(
        dataset.num_users,
        dataset.num_items,
        user_embedding_layer=table(dataset.num_users, ratio),
        item_embedding_layer=table(dataset.num_items, ratio),
    )
    model = ImplicitFactorizationModel(
        loss="bpr", n_iter=10, batch_size=256, representation=net, random_state=np.random.RandomState(seed)
    )
    model.fit(train)
    return mrr_score(model, test).mean(), parameters(net)


def sequence(dataset, network, ratio, seed):
    train, test = user_based_train_test_split(dataset, random_state=np.random.RandomState(seed))
    set_seed(seed)
    net = NETWORKS[network](
        dataset.num_items, embedding_dim=DIM, item_embedding_layer=table(dataset.num_items, ratio, padding_idx=0)
    )
    model = ImplicitSequenceModel(
        loss="bpr",
        representation=net,
        n_iter=8,
        batch_size=32,
        learning_rate=2e-2,
        random_state=np.random.RandomState(seed),
    )
    model.fit(train.to_sequence(10, step_size=5))
    return sequence_mrr_score(model, test.to_sequence(10, step_size=5)).mean(), parameters(net)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    dataset = make_dataset(np.random.RandomState(options.seed))
    for ratio in (None, 0.5):
        name = "full" if ratio is None else f"bloom {ratio}"
        score, size = factorization(dataset, ratio, options.seed)
        print(f"bilinear {name} parameters:", size)
        print(f"bilinear {name} mrr:", score)
        for network in NETWORKS:
            score, size = sequence(dataset, network, ratio, options.seed)
            print(f"{network} {name} parameters:", size)
            print(f"{network} {name} mrr:", score)


if __name__ == "__main__":
    main()
