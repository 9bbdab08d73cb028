"""Networks and optimizers of one's own, for pairs and for sequences."""

import argparse

import numpy as np
import torch
from spotlight.cross_validation import random_train_test_split, user_based_train_test_split
from spotlight.datasets.synthetic import generate_sequential
from spotlight.evaluation import mrr_score, sequence_mrr_score
from spotlight.factorization.implicit import ImplicitFactorizationModel
from spotlight.interactions import Interactions
from spotlight.layers import ScaledEmbedding, ZeroEmbedding
from spotlight.sequence.implicit import ImplicitSequenceModel
from spotlight.sequence.representations import PADDING_IDX
from torch import nn


class DeepNet(nn.Module):
    """Scores a pair by a small network over both vectors."""

    def __init__(self, num_users, num_items, dim=16):
        super().__init__()
        self.users = ScaledEmbedding(num_users, dim)
        self.items = ScaledEmbedding(num_items, dim)
        self.biases = ZeroEmbedding(num_items, 1)
        self.layers = nn.Sequential(nn.Linear(3 * dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user_ids, item_ids):
        users, items = self.users(user_ids), self.items(item_ids)
        features = torch.cat([users, items, users * items], dim=1)
        return (self.layers(features) + self.biases(item_ids)).squeeze(1)


class LastItemNet(nn.Module):
    """Scores the next item by the item before it alone."""

    def __init__(self, num_items, dim=16):
        super().__init__()
        self.inputs = nn.Embedding(num_items, dim, padding_idx=PADDING_IDX)
        self.outputs = ScaledEmbedding(num_items, dim, padding_idx=PADDING_IDX)

    def user_representation(self, item_sequences):
        vectors = self.inputs(item_sequences).permute(0, 2, 1)  # batch x dim x time
        shifted = nn.functional.pad(vectors, (1, 0))
        return shifted[:, :, :-1], shifted[:, :, -1]

    def forward(self, user_representations, targets):
        vectors = self.outputs(targets).permute(0, 2, 1)
        if user_representations.dim() == 2:
            user_representations = user_representations.unsqueeze(2)
        return (user_representations * vectors).sum(1)


def adagrad(parameters):
    return torch.optim.Adagrad(parameters, lr=0.1)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=1.0, momentum=0.9)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    random_state = np.random.RandomState(options.seed)
    users = random_state.randint(60, size=3000)
    items = users % 4 * 10 + random_state.randint(10, size=3000)
    pairs = Interactions(users, items, num_users=60, num_items=40)
    train, test = random_train_test_split(pairs, random_state=random_state)
    deep = DeepNet(pairs.num_users, pairs.num_items)
    for loss in ("bpr", "adaptive_hinge"):
        model = ImplicitFactorizationModel(
            loss=loss,
            n_iter=5,
            batch_size=128,
            representation=deep,
            optimizer_func=adagrad,
            random_state=random_state,
        )
        model.fit(train)
        print(f"deep {loss} mrr:", mrr_score(model, test).mean())
        print("network is mine:", model._net is deep)

    sequences = generate_sequential(
        num_users=60,
        num_items=40,
        num_interactions=6000,
        concentration_parameter=0.01,
        order=1,
        random_state=random_state,
    )
    train, test = user_based_train_test_split(sequences, random_state=random_state)
    for loss in ("pointwise", "adaptive_hinge"):
        model = ImplicitSequenceModel(
            loss=loss,
            n_iter=15,
            batch_size=32,
            representation=LastItemNet(sequences.num_items),
            optimizer_func=momentum,
            random_state=random_state,
        )
        model.fit(train.to_sequence(10, step_size=5))
        print(f"last item {loss} mrr:", sequence_mrr_score(model, test.to_sequence(10, step_size=5)).mean())


if __name__ == "__main__":
    main()
