"""Vectors whose scores differ, tie in part, tie all, or lie a few bits apart."""

from __future__ import annotations

import torch

PATTERNS = {
    "random": lambda *shape, generator: torch.randn(shape, generator=generator),
    "tied": lambda *shape, generator: torch.randint(-1, 2, shape, generator=generator).float(),
    "constant": lambda *shape, generator: torch.zeros(shape),
    "neighbours": lambda *shape, generator: 1 + 1e-7 * torch.randint(0, 3, shape, generator=generator),
}
