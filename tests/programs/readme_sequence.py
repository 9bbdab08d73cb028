"""Predict the next item of made-up sequences with every kind of sequence model."""

import argparse

import numpy as np
from spotlight.cross_validation import user_based_train_test_split
from spotlight.datasets.synthetic import generate_sequential
from spotlight.evaluation import sequence_mrr_score, sequence_precision_recall_score
from spotlight.sequence.implicit import ImplicitSequenceModel

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("representations", nargs="*", default=["pooling", "cnn", "lstm", "mixture"])
options = parser.parse_args()

dataset = generate_sequential(
    num_users=60,
    num_items=40,
    num_interactions=6000,
    concentration_parameter=0.01,
    order=1,
    random_state=np.random.RandomState(options.seed),
)
train, test = user_based_train_test_split(dataset, random_state=np.random.RandomState(options.seed))
train = train.to_sequence(max_sequence_length=10, min_sequence_length=5, step_size=5)
test = test.to_sequence(max_sequence_length=10, min_sequence_length=5, step_size=5)
print(train, test.num_items)

for representation in options.representations:
    model = ImplicitSequenceModel(
        loss="adaptive_hinge" if representation == "mixture" else "bpr",
        representation=representation,
        embedding_dim=16,
        n_iter=8,
        batch_size=32,
        learning_rate=2e-2,
        l2=0.0,
        random_state=np.random.RandomState(options.seed),
    )
    model.fit(train)
    precision, recall = sequence_precision_recall_score(model, test, k=2)
    print(f"{representation} mrr:", sequence_mrr_score(model, test).mean())
    print(f"{representation} precision:", precision.mean())
    print(f"{representation} recall:", recall.mean())
    scores = model.predict(test.sequences[0])
    print(f"{representation} best next item:", int(scores.argmax()))
