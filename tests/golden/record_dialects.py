"""What other libraries' own evaluation says about the same scores: `python tests/golden/record_dialects.py` records it.

The tests compare with the record, and with the libraries themselves where they are installed.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import scipy.sparse as sp

RECORD = Path(__file__).parent / "dialects.json"
CUTOFFS = (1, 3, 10)


def make_case():
    """Scores without ties of 9 users and 30 items; test sets of 1 to 14 items; one user has 4 items left to rank."""
    rng = np.random.default_rng(7)
    scores = np.argsort(rng.random((9, 30)), axis=1) / 10
    train = rng.random(scores.shape) < 0.3
    train[4] = np.arange(30) >= 4
    wanted = np.array([1, 2, 3, 5, 2, 14, 4, 0, 6])
    allowed = np.argsort(rng.random(scores.shape) + train, axis=1)  # items outside the training set come first
    test = np.zeros(scores.shape, bool)
    for user, count in enumerate(wanted):
        test[user, allowed[user, :count]] = True
    assert not (test & train).any()
    return scores, sp.csr_matrix(train), sp.csr_matrix(test)


def lists(scores, train, k):
    """The best k items of each user, -1 where there are no more."""
    moved = np.where(train.toarray(), -np.inf, scores)
    best = np.argsort(-moved, axis=1, kind="stable")[:, :k]
    return np.where(np.isfinite(np.take_along_axis(moved, best, axis=1)), best, -1)


def implicit_values(scores, train, test):
    from implicit.evaluation import ranking_metrics_at_k

    class Model:
        def recommend(self, users, _, N):
            best = lists(scores, train, N)[users]
            return best.astype(np.int32), np.zeros(best.shape, np.float32)

    values = {}
    for k in CUTOFFS:
        found = ranking_metrics_at_k(Model(), train.tocsr(), test.tocsr(), K=k, show_progress=False)
        values |= {f"{name}@{k}": found[name] for name in ("precision", "map", "ndcg", "auc")}
    return values


def recbole_values(scores, train, test):
    vars(np)["float"] = float  # an alias that RecBole 1.2.1 still expects
    import torch
    from recbole.evaluator import metrics
    from recbole.evaluator.collector import Collector

    names = {"MRR": "mrr", "Precision": "precision", "Recall": "recall", "Hit": "hit_rate", "NDCG": "ndcg",
             "MAP": "map", "GAUC": "auc", "AveragePopularity": "mean_popularity",
             "ItemCoverage": "coverage"}  # fmt: skip
    config = {"topk": list(CUTOFFS), "metric_decimal_place": 15, "metrics": list(names), "device": "cpu"}
    config["eval_args"] = {"mode": "full"}
    users = np.flatnonzero(np.diff(test.indptr))
    moved = torch.from_numpy(np.where(train.toarray(), -np.inf, scores)[users])
    positive = [torch.from_numpy(part.astype(np.int64)) for part in test[users].nonzero()]
    collector = Collector(config)
    collector.eval_batch_collect(moved, None, *positive)
    found = collector.get_data_struct()
    found.set("data.num_items", scores.shape[1])
    found.set("data.count_items", dict(enumerate(np.asarray(train.sum(axis=0)).ravel().tolist())))
    best = lists(scores, train, max(CUTOFFS))[users]
    values = {}
    for name, own in names.items():
        for key, value in getattr(metrics, name)(config).calculate_metric(found).items():
            _, _, k = key.partition("@")
            # RecBole fills lists that are too short with training items, which spotfast leaves short.
            if own not in ("mean_popularity", "coverage") or (best[:, : int(k)] >= 0).all():
                values[f"{own}@{k}" if k else own] = float(value)
    return values


def lenskit_values(scores, train, test):
    from lenskit.data import ItemList
    from lenskit.metrics import NDCG, Hit, Precision, Recall, RecipRank
    from lenskit.metrics.ranking import AveragePrecision

    names = {RecipRank: "mrr", Precision: "precision", Recall: "recall", Hit: "hit_rate", NDCG: "ndcg",
             AveragePrecision: "map"}  # fmt: skip
    values = {}
    for k in CUTOFFS:
        best = lists(scores, train, k)
        for metric, own in names.items():
            found = []
            for user in np.flatnonzero(np.diff(test.indptr)):
                ranked = ItemList(item_ids=best[user][best[user] >= 0], ordered=True)
                relevant = ItemList(item_ids=test.indices[test.indptr[user] : test.indptr[user + 1]])
                found.append(metric(n=k).measure_list(ranked, relevant))
            values[f"{own}@{k}"] = float(np.mean(found))
    return values


LIBRARIES = {"implicit": implicit_values, "recbole": recbole_values, "lenskit": lenskit_values}

if __name__ == "__main__":
    recorded = {
        name: {"version": metadata.version(name), "values": values(*make_case())} for name, values in LIBRARIES.items()
    }
    RECORD.write_text(json.dumps(recorded, indent=1) + "\n")
