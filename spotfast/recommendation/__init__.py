"""The best items for users or after sequences, and the most similar items and users.

The models' own methods `recommend`, `similar_items` and `similar_users` are calls of these functions.
"""

from spotfast.recommendation.recommending import estimate_memory, iter_recommend, recommend

__all__ = ["estimate_memory", "iter_recommend", "recommend"]
