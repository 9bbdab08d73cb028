"""Scores of pairs in Triton, and their gradients: no further from the truth than the reference is."""

from __future__ import annotations

import pytest
import torch

from spotfast.ops import bilinear as ops
from spotfast.ops.bilinear import bilinear

pytestmark = pytest.mark.interpreter

USERS, ITEMS = 11, 13
GUARD = 4096  # elements before and after every output: more than any program writes

# Every pair of values of two columns occurs in some row.
CASES = [
    # dim, samples, candidates, ids, kind of ids
    (1, 1, 1, torch.int64, "random"),
    (1, 2, 4, torch.int32, "equal"),
    (1, 33, 4, torch.int64, "distinct"),
    (3, 1, 4, torch.int32, "random"),
    (3, 2, 1, torch.int64, "equal"),
    (3, 33, 1, torch.int32, "distinct"),
    (32, 1, 4, torch.int64, "equal"),
    (32, 2, 1, torch.int32, "distinct"),
    (32, 33, 4, torch.int64, "random"),
    (33, 1, 1, torch.int32, "distinct"),
    (33, 2, 4, torch.int64, "random"),
    (33, 33, 1, torch.int32, "equal"),
    (127, 1, 1, torch.int64, "equal"),
    (127, 2, 4, torch.int32, "random"),
    (127, 33, 4, torch.int64, "distinct"),
    (128, 33, 1, torch.int64, "random"),
    (129, 2, 4, torch.int32, "distinct"),  # rows in two parts
    (300, 33, 1, torch.int64, "random"),
]


@pytest.fixture
def guards(monkeypatch):
    """Outputs are NaN before the kernels run, and so must be what is around them afterwards."""
    around = []

    def poisoned(size, *, dtype, device):
        shape = torch.Size(size)
        buffer = torch.full((shape.numel() + 2 * GUARD,), torch.nan, dtype=dtype, device=device)
        before, output, after = buffer.split([GUARD, shape.numel(), GUARD])
        around.extend((before, after))
        return output.view(shape)

    monkeypatch.setattr(torch, "empty", poisoned)
    yield around
    assert around
    assert all(guard.isnan().all() for guard in around), "written outside of the output"


def problem(dim, samples, candidates, id_dtype, kind):
    """Tables of float32 that bfloat16 holds, too, ids, and the gradient of the scores."""
    generator = torch.Generator().manual_seed(dim + samples)
    shapes = ((USERS, dim), (USERS, 1), (ITEMS, dim), (ITEMS, 1), (samples, candidates))
    *tables, gradient = (torch.randn(shape, generator=generator).bfloat16().float() for shape in shapes)
    count = samples * candidates
    user_ids, item_ids = {
        "random": lambda: (torch.randperm(samples, generator=generator), torch.randperm(count, generator=generator)),
        "equal": lambda: (torch.full((samples,), USERS - 1), torch.full((count,), ITEMS - 1)),
        "distinct": lambda: (torch.arange(samples), torch.arange(count)),  # up to the sizes of the tables
    }[kind]()
    return tables, (user_ids % USERS).to(id_dtype), (item_ids % ITEMS).view(samples, -1).to(id_dtype), gradient


def evaluate(function, tables, gradient, dtype):
    """Scores and gradients of the four tables, for tables of a dtype."""
    tables = [table.to(dtype).requires_grad_() for table in tables]
    scores = function(tables)
    return [scores.detach(), *torch.autograd.grad(scores, tables, gradient.to(scores.dtype))]


def in_plain_torch(user_ids, item_ids):
    """The scores of some pairs as autograd differentiates them, in the dtype of the tables throughout."""

    def scores(tables):
        users, user_biases, items, item_biases = tables
        users, user_biases, item_biases = users[user_ids], user_biases[user_ids], item_biases[item_ids]
        return (users.unsqueeze(1) * items[item_ids]).sum(-1) + user_biases + item_biases.squeeze(-1)

    return scores


def by(backend, user_ids, item_ids, **options):
    return lambda tables: bilinear(*tables, user_ids, item_ids, backend=backend, **options)


def error(values, truth):
    """Root of the mean squared error."""
    return (values.double() - truth).square().mean().sqrt().item()


@pytest.mark.parametrize("case", CASES, ids=str)
class TestSizes:
    def test_float32(self, case, guards):
        tables, user_ids, item_ids, gradient = problem(*case)
        results = evaluate(by("triton", user_ids, item_ids), tables, gradient, torch.float32)
        truth = evaluate(by("reference", user_ids, item_ids), tables, gradient, torch.float64)
        sizes = evaluate(  # of all that is summed up
            by("reference", user_ids, item_ids), [t.abs() for t in tables], gradient.abs(), torch.float64
        )
        for result, true, size in zip(results, truth, sizes, strict=True):
            summands = max(case[0] + 2, case[1] * case[2])
            assert ((result - true).abs() <= summands * 2.0**-24 * size).all()

    def test_bfloat16(self, case, guards):
        tables, user_ids, item_ids, gradient = problem(*case)
        results = evaluate(by("triton", user_ids, item_ids), tables, gradient, torch.bfloat16)
        plain = evaluate(in_plain_torch(user_ids, item_ids), tables, gradient, torch.bfloat16)
        truth = evaluate(by("reference", user_ids, item_ids), tables, gradient, torch.float64)
        assert [result.dtype for result in results] == [torch.float32] + 4 * [torch.bfloat16]
        for result, other, true in zip(results, plain, truth, strict=True):
            assert error(result, true) <= error(other, true)
            unit = 2.0**-8 if result.dtype == torch.bfloat16 else 0.0  # half of the distance of neighbours of 1
            assert ((result - true).abs() <= unit * true.abs() + 1e-5).all()  # rounded to bfloat16 once, if at all


class TestResults:
    @pytest.mark.parametrize("sparse", [False, True])
    def test_the_same_when_run_twice(self, sparse, guards):
        tables, user_ids, item_ids, gradient = problem(33, 33, 4, torch.int64, "random")
        function = by("triton", user_ids, item_ids, sparse=sparse)
        first, second = (evaluate(function, tables, gradient, torch.float32) for _ in range(2))
        assert all(torch.equal(a.to_dense(), b.to_dense()) for a, b in zip(first, second, strict=True))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_sparse_gradients(self, dtype, guards):
        tables, user_ids, item_ids, gradient = problem(33, 1, 4, torch.int32, "distinct")
        dense = evaluate(by("triton", user_ids, item_ids), tables, gradient, dtype)
        sparse = evaluate(by("triton", user_ids, item_ids, sparse=True), tables, gradient, dtype)
        for result, other in zip(sparse[1:], dense[1:], strict=True):
            assert result.is_sparse
            assert torch.equal(result.to_dense(), other)

    def test_strided_ids_and_gradients(self, guards):
        tables, user_ids, item_ids, gradient = problem(33, 33, 4, torch.int64, "random")
        expected = evaluate(by("triton", user_ids, item_ids), tables, gradient, torch.float32)
        strided = [part.repeat_interleave(2, dim=-1)[..., ::2] for part in (user_ids, item_ids, gradient)]
        assert not any(part.is_contiguous() for part in strided)
        results = evaluate(by("triton", *strided[:2]), tables, strided[2], torch.float32)
        assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))

    def test_infinite_and_undefined_rows_stay_where_they_are(self, guards):
        tables, user_ids, item_ids, _ = problem(3, 2, 4, torch.int64, "distinct")
        tables[0][0, 0] = torch.nan
        tables[2][7, 2] = torch.inf
        scores = by("triton", user_ids, item_ids)(tables)
        expected = by("reference", user_ids, item_ids)(tables)
        torch.testing.assert_close(scores, expected, equal_nan=True)
        assert (scores.isnan().sum(), scores.isinf().sum()) == (4, 1)

    @pytest.mark.parametrize(("samples", "candidates"), [(0, 3), (4, 0)])
    def test_nothing_to_score(self, samples, candidates, guards):
        tables, *_ = problem(3, 1, 1, torch.int64, "random")
        user_ids = torch.zeros(samples, dtype=torch.int64)
        item_ids = torch.zeros(samples, candidates, dtype=torch.int64)
        results = evaluate(by("triton", user_ids, item_ids), tables, torch.zeros(item_ids.shape), torch.float32)
        assert results[0].shape == (samples, candidates)
        assert all((result == 0).all() for result in results[1:])


class TestIdsOutOfRange:
    """On the CPU they do not get as far as the kernels: what they do on CUDA is seen by calling the launchers."""

    @pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
    @pytest.mark.parametrize("value", [-1, ITEMS, torch.iinfo(torch.int32).max, torch.iinfo(torch.int32).min])
    def test_nothing_is_read(self, dtype, value, guards):
        from spotfast.kernels import bilinear as kernels

        tables, user_ids, item_ids, gradient = problem(33, 33, 4, dtype, "random")
        scores = kernels.scores(*tables, user_ids, item_ids)
        rows = kernels.row_gradients(gradient, *tables[::2], user_ids, item_ids)
        user_ids[5] = item_ids[7, 1] = value
        wrong = torch.zeros_like(scores, dtype=torch.bool)
        wrong[5] = wrong[7, 1] = True
        found = kernels.scores(*tables, user_ids, item_ids)
        assert torch.equal(found.isnan(), wrong)
        assert torch.equal(found[~wrong], scores[~wrong])
        user_rows, item_rows = kernels.row_gradients(gradient, *tables[::2], user_ids, item_ids)
        assert (item_rows[5] == 0).all()
        item_rows[5] = rows[1][5]
        assert torch.equal(item_rows, rows[1])
        others = torch.arange(33) != 7
        assert torch.equal(user_rows[others], rows[0][others])
        left = (gradient[7, :, None] * tables[2][item_ids[7].clamp(0, ITEMS - 1).long()])[[0, 2, 3]].sum(0)
        torch.testing.assert_close(user_rows[7], left)


def test_float64_is_for_the_reference():
    tables, user_ids, item_ids, _ = problem(3, 2, 1, torch.int64, "random")
    tables = [table.double() for table in tables]
    with pytest.raises(ValueError, match=r"must be float32 or bfloat16 for backend 'triton', got torch\.float64"):
        by("triton", user_ids, item_ids)(tables)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("id_dtype", [torch.int32, torch.int64])
def test_registered_as_torch_asks(dtype, id_dtype):
    tables, users, items, gradient = problem(5, 4, 3, id_dtype, "random")
    leaves = [table.to(dtype).requires_grad_() for table in tables]
    torch.library.opcheck(ops._scores, (*leaves, users, items, False, "triton"))
    vectors = [table.detach() for table in (leaves[0], leaves[2])]
    torch.library.opcheck(ops._row_gradients, (gradient, *vectors, users, items, "triton"))
