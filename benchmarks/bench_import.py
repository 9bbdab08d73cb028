"""What starting costs: seconds that imports add to `import torch`, and the first evaluation in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import harness

LIMIT_IMPORT, LIMIT_EVALUATION = 0.4, 1.0
LATE = {"numba", "pandas", "triton"}  # to be loaded when used
IMPORTS = {
    "import spotfast": "import torch, spotfast",
    "import a model and a score": (
        "import torch; "
        "from spotfast.factorization.implicit import ImplicitFactorizationModel; "
        "from spotfast.evaluation import mrr_score"
    ),
}
EVALUATION = """
import time
import numpy as np
from spotfast.evaluation import mrr_score, precision_recall_score
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
rng = np.random.default_rng(0)
train, test = (Interactions(rng.integers(100, size=2000), rng.integers(500, size=2000)) for _ in range(2))
model = ImplicitFactorizationModel(n_iter=1, random_state=0)
model.fit(train)
started = time.perf_counter()
result = {score}(model, test, train)
print(time.perf_counter() - started, np.sum(result))
"""


def python(code: str) -> str:
    """Run code in a new process and return what it prints."""
    return subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True).stdout


def loaded(code: str) -> set[str]:
    """Return the top-level modules that code loads."""
    return set(python(f"{code}; import sys; print(*sys.modules)").split())


def first_evaluation(score: str) -> tuple[float, float]:
    """Return the seconds of a first evaluation, and its result."""
    taken, result = python(EVALUATION.format(score=score)).split()
    return float(taken), float(result)


def measure(quick: bool) -> Iterator[harness.Case]:
    repetitions = 2 if quick else 11
    only_torch = "import torch"
    for name, code in IMPORTS.items():
        early = LATE & (loaded(code) - loaded(only_torch))  # warms the file cache, too
        harness.require(not early, f"{', '.join(sorted(early))} loaded by: {code}")
        times = harness.alternate([partial(python, only_torch), partial(python, code)], repetitions)
        yield harness.extra_seconds(f"{name}, beyond import torch", *times, LIMIT_IMPORT)
    for score in ("mrr_score", "precision_recall_score"):
        _, expected = first_evaluation(score)  # fills Numba's cache
        measured = [first_evaluation(score) for _ in range(repetitions)]
        harness.require(all(result == expected for _, result in measured), f"{score} differs between processes")
        yield harness.seconds(f"first {score} of a process", [taken for taken, _ in measured], LIMIT_EVALUATION)


if __name__ == "__main__":
    harness.run(measure)
