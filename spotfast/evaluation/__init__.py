"""How good a model's predictions are: ranking scores for implicit feedback, errors for ratings."""

from spotfast.evaluation.evaluate import estimate_memory, evaluate
from spotfast.evaluation.lists import evaluate_lists
from spotfast.evaluation.result import Evaluation
from spotfast.evaluation.scores import mrr_score, precision_recall_score, rmse_score
from spotfast.evaluation.sequence_scores import sequence_mrr_score, sequence_precision_recall_score

__all__ = [
    "estimate_memory",
    "evaluate",
    "evaluate_lists",
    "Evaluation",
    "mrr_score",
    "precision_recall_score",
    "rmse_score",
    "sequence_mrr_score",
    "sequence_precision_recall_score",
]
