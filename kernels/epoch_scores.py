"""Scores, losses and gradients of a batch: the first kernel of a step of training.

A bilinear model needs one number per sample and candidate, the derivative of the loss in the score, and not a gradient
of the size of a row.
"""

from spotfast.kernels.epoch_rows import SPILLED, absent, batch_at, read_rows
from spotfast.kernels.language import tl, triton
from spotfast.kernels.rows import store_rows, tile
from spotfast.kernels.score_loss import hardest, of_ranking, of_rating
from spotfast.kernels.specialisation import Specialisation

SCORED = 512  # numbers of user vectors that a program of 4 warps scores at once: 4 per thread
SCALARS = ["batch_size", "candidates", "dim"]


@triton.jit
def read_candidate(
    vectors, biases, first, second, bias_first, bias_second, last, row, reading, dim, schedule, counter,
    OWED: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Vectors (ROWS, BLOCK_D) and biases (ROWS,) of rows, int32 (ROWS,), after the steps that they owe."""
    row = row.to(tl.int64)
    vector, _, _ = read_rows(vectors, first, second, last, row, reading, dim, schedule, counter, OWED, BLOCK_D)
    bias, _, _ = read_rows(biases, bias_first, bias_second, last, row, reading, 1, schedule, counter, OWED, 1)
    return vector, tl.sum(bias, axis=1)


@triton.jit
def choose_negative(
    vectors, biases, first, second, bias_first, bias_second, last,
    items, candidates, user, user_bias, inside, dim, schedule, counter,
    LOSS: tl.constexpr, OWED: tl.constexpr, SAMPLES: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The negatives that the loss looks at: vectors (SAMPLES, BLOCK_D), scores (SAMPLES,), and places among candidates.

    items -> (SAMPLES,) of the positives, which the negatives follow. For "adaptive_hinge" the negatives of the highest
    scores, otherwise the only ones.
    """
    row = tl.load(items + 1, mask=inside, other=0)
    negative, bias = read_candidate(
        vectors, biases, first, second, bias_first, bias_second, last,
        row, inside, dim, schedule, counter, OWED, BLOCK_D,
    )  # fmt: skip
    highest = tl.sum(user * negative, axis=1) + user_bias + bias
    slot = tl.full((SAMPLES,), 1, tl.int32)
    if LOSS == "adaptive_hinge":
        for candidate in range(2, candidates):
            row = tl.load(items + candidate, mask=inside, other=0)
            vector, bias = read_candidate(
                vectors, biases, first, second, bias_first, bias_second, last,
                row, inside, dim, schedule, counter, OWED, BLOCK_D,
            )  # fmt: skip
            highest, slot = hardest(highest, slot, tl.sum(user * vector, axis=1) + user_bias + bias, candidate)
            negative = tl.where((slot == candidate)[:, None], vector, negative)
    return negative, highest, slot


@triton.jit(do_not_specialize=SCALARS)
def score_kernel(
    losses,
    gradients,
    user_sources,
    user_gradients,
    user_bias_gradients,
    users,
    items,
    ratings,
    sample_weights,
    user_vectors,
    user_biases,
    user_first,
    user_second,
    user_bias_first,
    user_bias_second,
    user_last,
    item_vectors,
    item_biases,
    item_first,
    item_second,
    item_bias_first,
    item_bias_second,
    item_last,
    place,
    schedule,
    counter,
    batch_size: tl.int64,
    candidates: tl.int32,
    dim: tl.int32,
    LOSS: tl.constexpr,
    OWED: tl.constexpr,
    SAMPLES: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Score the samples of a batch; their losses, and the gradients. A program owns `SAMPLES` samples.

    losses -> (batches, programs) fp64, parts of the means of batches. gradients -> (batch_size, candidates) fp32, in
    the scores. user_sources, user_gradients -> (batch_size, dim) fp32, vectors of the samples' users and what each
    sample adds to their gradients; user_bias_gradients -> (batch_size,) fp32, likewise. users .. sample_weights ->
    `Chunk`. The tables -> `EpochTable`; states and `last` are None where rows owe nothing, and OWED is "sgd".
    """
    batch, count = batch_at(counter, place, batch_size)
    sample = tl.program_id(0).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)
    inside = sample < count
    position = batch * batch_size + sample
    row = tl.load(users + position, mask=inside, other=0)
    user, user_bias = read_candidate(
        user_vectors, user_biases, user_first, user_second, user_bias_first, user_bias_second, user_last,
        row, inside, dim, schedule, counter, OWED, BLOCK_D,
    )  # fmt: skip
    store_rows(user_sources, sample, user, inside, dim, BLOCK_D)
    row = tl.load(items + position * candidates, mask=inside, other=0)
    item, bias = read_candidate(
        item_vectors, item_biases, item_first, item_second, item_bias_first, item_bias_second, item_last,
        row, inside, dim, schedule, counter, OWED, BLOCK_D,
    )  # fmt: skip
    score = tl.sum(user * item, axis=1) + user_bias + bias
    weight = tl.load(sample_weights + position, mask=inside, other=0.0)
    scale = weight / count.to(tl.float32)
    if ratings is not None:
        rating = tl.load(ratings + position, mask=inside, other=0.0)
        charged, of_score = of_rating(rating, score, LOSS)
        of_score = scale * of_score
        gradient = of_score[:, None] * item
        bias_gradient = of_score
    else:
        negative, highest, slot = choose_negative(
            item_vectors, item_biases, item_first, item_second, item_bias_first, item_bias_second, item_last,
            items + position * candidates, candidates, user, user_bias, inside, dim, schedule, counter,
            LOSS, OWED, SAMPLES, BLOCK_D,
        )  # fmt: skip
        charged, of_score, of_negative = of_ranking(score, highest, "hinge" if LOSS == "adaptive_hinge" else LOSS)
        of_score = scale * of_score
        of_negative = scale * of_negative
        for candidate in range(1, candidates):
            derivative = tl.where(slot == candidate, of_negative, 0.0)
            tl.store(gradients + sample * candidates + candidate, derivative, mask=inside)
        gradient = of_score[:, None] * item + of_negative[:, None] * negative
        bias_gradient = of_score + of_negative
    tl.store(gradients + sample * candidates, of_score, mask=inside)
    store_rows(user_gradients, sample, gradient, inside, dim, BLOCK_D)
    tl.store(user_bias_gradients + sample, bias_gradient, mask=inside)
    part = tl.sum(tl.where(inside, weight * charged, 0.0).to(tl.float64), axis=0) / count.to(tl.float64)
    tl.store(losses + batch * tl.num_programs(0) + tl.program_id(0), part)


SPILLS = {("regression", "adam", 128): 8, ("bpr", "replayed_adam", 64): 16}  # bytes, by LOSS, OWED and BLOCK_D
_ROWS = {
    f"{table}_{part}": kind
    for table in ("user", "item")
    for part, kind in (
        *dict.fromkeys(("vectors", "biases", "first", "second", "bias_first", "bias_second"), "*fp32").items(),
        ("last", "*i32"),
    )
}
_SHARED = dict.fromkeys(
    ("gradients", "user_sources", "user_gradients", "user_bias_gradients", "ratings", "sample_weights", "schedule"),
    "*fp32",
) | {"losses": "*fp64", "users": "*i32", "items": "*i32", "place": "*i64", "counter": "*i64"}


def specialisation(loss: str, owed: str, dim: int, vectors: str = "*fp32") -> Specialisation:
    """Return the form for D up to `dim`; OWED is a rule whose rows owe steps, or "sgd"."""
    samples, block = tile(dim, SCORED)
    pointers = _SHARED | _ROWS | {"user_vectors": vectors, "item_vectors": vectors}
    lacking = ["ratings"] * (loss not in ("regression", "poisson", "logistic"))
    lacking += [f"{table}_{name}" for table in ("user", "item") for name in absent(owed)]
    constants = {"LOSS": loss, "OWED": owed, "SAMPLES": samples, "BLOCK_D": block} | dict.fromkeys(lacking)
    pointers = {name: kind for name, kind in pointers.items() if name not in lacking}
    local_bytes = SPILLS.get((loss, owed, block))
    spilled = {"local_bytes": local_bytes, "reason": SPILLED} if local_bytes else {}
    return Specialisation(score_kernel, pointers, constants, **spilled)


SPECIALISATIONS = [
    *(
        specialisation(loss, "adam", dim)
        for loss in ("pointwise", "bpr", "hinge", "adaptive_hinge", "regression")
        for dim in (32, 64, 128)
    ),
    *(specialisation("bpr", "sgd", dim) for dim in (32, 64, 128)),
    specialisation("bpr", "adam", 64, "*bf16"),
]
OTHERS = [
    *(specialisation("bpr", owed, 64) for owed in ("adamw", "replayed_adam", "momentum")),
    *(specialisation(loss, "adam", 64) for loss in ("poisson", "logistic")),
]
