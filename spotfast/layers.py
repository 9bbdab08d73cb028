"""Embedding layers with the initial values that matrix factorization wants."""

from __future__ import annotations

from torch import nn


class ScaledEmbedding(nn.Embedding):
    """Embedding whose rows start as N(0, 1 / embedding_dim), that is with standard deviation 1 / embedding_dim.

    Arguments as in `torch.nn.Embedding`; the padding row, if any, starts as zeros.
    """

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        nn.init.normal_(self.weight, 0.0, 1.0 / self.embedding_dim)
        self._fill_padding_idx_with_zero()


class ZeroEmbedding(nn.Embedding):
    """Embedding that starts as zeros: biases. Arguments as in `torch.nn.Embedding`."""

    def reset_parameters(self) -> None:
        """Set all values to zero."""
        nn.init.zeros_(self.weight)
