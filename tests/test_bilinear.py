"""Scores of pairs as a torch operator: values, gradients, compilation, and what it refuses."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from spotfast.factorization import representations
from spotfast.factorization.representations import BilinearNet
from spotfast.layers import BloomEmbedding
from spotfast.ops import bilinear as ops
from spotfast.ops.bilinear import bilinear

USERS, ITEMS, DIM = 5, 7, 3
LAYERS = ("user_embeddings", "user_biases", "item_embeddings", "item_biases")


def tables(dtype=torch.float64, requires_grad=True):
    generator = torch.Generator().manual_seed(3)
    shapes = ((USERS, DIM), (USERS, 1), (ITEMS, DIM), (ITEMS, 1))
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_(requires_grad) for shape in shapes]


def ids(dtype=torch.int64):
    """With duplicates: in the batch, among the candidates of a sample, and from one sample to another."""
    user_ids = torch.tensor([4, 0, 4, 2])
    item_ids = torch.tensor([[6, 0, 6], [1, 2, 3], [6, 5, 0], [3, 3, 3]])
    return user_ids.to(dtype), item_ids.to(dtype)


def net_of(arguments, sparse=False):
    net = BilinearNet(USERS, ITEMS, DIM, sparse=sparse)
    with torch.no_grad():
        for name, table in zip(LAYERS, arguments, strict=True):
            getattr(net, name).weight.copy_(table)
    return net, [getattr(net, name).weight for name in LAYERS]


class TestGradients:
    @pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
    def test_of_all_tables(self, dtype):
        assert torch.autograd.gradcheck(lambda *arguments: bilinear(*arguments, *ids(dtype)), tables())

    @pytest.mark.parametrize("frozen", range(4))
    def test_of_some_tables(self, frozen):
        arguments = tables()
        arguments[frozen].requires_grad_(False)
        assert torch.autograd.gradcheck(lambda *arguments: bilinear(*arguments, *ids()), arguments)
        bilinear(*arguments, *ids()).sum().backward()
        assert [argument.grad is None for argument in arguments] == [place == frozen for place in range(4)]

    @pytest.mark.parametrize("sparse", [False, True])
    def test_are_those_of_the_network(self, sparse):
        arguments = tables(torch.float32)
        net, weights = net_of(arguments, sparse)
        scores = bilinear(*arguments, *ids(), sparse=sparse)
        expected = net.score_candidates(*ids())
        torch.testing.assert_close(scores, expected)
        scores.sin().sum().backward()
        expected.sin().sum().backward()
        for argument, weight in zip(arguments, weights, strict=True):
            assert argument.grad.is_sparse == weight.grad.is_sparse == sparse
            torch.testing.assert_close(argument.grad.to_dense(), weight.grad.to_dense())

    def test_sparse_ones_have_a_row_per_lookup(self):
        arguments = tables(torch.float32)
        bilinear(*arguments, *ids(torch.int32), sparse=True).sum().backward()
        counts = [argument.grad._nnz() for argument in arguments]
        assert counts == [4, 4, 12, 12]

    def test_of_one_table_for_users_and_items(self):
        vectors = torch.randn(ITEMS, DIM, dtype=torch.float64, requires_grad=True)
        biases = torch.zeros(ITEMS, 1, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda table: bilinear(table, biases, table, biases, *ids()), [vectors])

    def test_sums_of_bfloat16_are_rounded_once(self):
        """1 + 256 * 2**-8 = 2: summed in bfloat16, it would stay 1."""
        users, items = torch.zeros(1, 1), torch.ones(1, 1)
        arguments = [part.bfloat16().requires_grad_() for part in (users, users, items, torch.zeros(1, 1))]
        zeros = torch.zeros(257, dtype=torch.int64)
        scores = bilinear(*arguments, zeros, zeros[:, None])
        gradient = torch.full((257, 1), 2.0**-8)
        gradient[0] = 1.0
        scores.backward(gradient)
        assert [argument.grad.item() for argument in arguments] == [2.0, 2.0, 0.0, 2.0]
        assert {argument.grad.dtype for argument in arguments} == {torch.bfloat16}

    def test_once_only(self):
        arguments = tables()
        (gradient,) = torch.autograd.grad(bilinear(*arguments, *ids()).sum(), arguments[0], create_graph=True)
        with pytest.raises(RuntimeError, match="bilinear_row_gradients"):
            gradient.sum().backward()


class TestOperator:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_opcheck(self, dtype, requires_grad):
        arguments = tables(dtype, requires_grad)
        torch.library.opcheck(ops._scores, (*arguments, *ids(), False, "reference"))

    def test_opcheck_of_the_backward_operator(self):
        users, _, items, _ = tables(torch.bfloat16, requires_grad=False)
        gradient = torch.randn(4, 3)
        torch.library.opcheck(ops._row_gradients, (gradient, users, items, *ids(), "reference"))

    @pytest.mark.parametrize("dtype", ops.DTYPES)
    def test_fake_tensors(self, dtype):
        with FakeTensorMode():
            shapes = ((USERS, DIM), (USERS, 1), (ITEMS, DIM), (ITEMS, 1))
            arguments = [torch.empty(shape, dtype=dtype, requires_grad=True) for shape in shapes]
            user_ids, item_ids = torch.empty(4, dtype=torch.int64), torch.empty(4, 3, dtype=torch.int64)
            scores = bilinear(*arguments, user_ids, item_ids)
            scores.sum().backward()
        assert (scores.shape, scores.dtype) == ((4, 3), torch.promote_types(dtype, torch.float32))
        for argument in arguments:
            assert (argument.grad.shape, argument.grad.dtype) == (argument.shape, dtype)

    def test_compiled_as_one_graph(self):
        compiled = torch.compile(bilinear, fullgraph=True, backend="aot_eager")
        arguments, others = tables(torch.float32), tables(torch.float32)
        for user_ids, item_ids in (ids(), tuple(part[:2] for part in ids())):
            scores = compiled(*arguments, user_ids, item_ids)
            expected = bilinear(*others, user_ids, item_ids)
            assert torch.equal(scores, expected)
            scores.sin().sum().backward()
            expected.sin().sum().backward()
        for argument, other in zip(arguments, others, strict=True):
            torch.testing.assert_close(argument.grad, other.grad)

    @pytest.mark.parametrize(("samples", "candidates"), [(0, 3), (4, 0), (0, 0)])
    def test_nothing_to_score(self, samples, candidates):
        arguments = tables()
        user_ids = torch.zeros(samples, dtype=torch.int64)
        scores = bilinear(*arguments, user_ids, torch.zeros(samples, candidates, dtype=torch.int64))
        assert scores.shape == (samples, candidates)
        scores.sum().backward()
        assert all((argument.grad == 0).all() for argument in arguments)


class TestNetwork:
    """On a GPU, `BilinearNet` calls the operator; here, the CPU is taken for one."""

    @pytest.fixture(autouse=True)
    def calls(self, monkeypatch):
        calls = []

        def recorded(*arguments, **options):
            calls.append(options)
            return bilinear(*arguments, **options)

        monkeypatch.setattr(representations, "ONE_KERNEL", "cpu")
        monkeypatch.setattr(representations, "bilinear", recorded)
        return calls

    @pytest.mark.parametrize("sparse", [False, True])
    def test_plain_tables(self, calls, sparse):
        arguments = tables(torch.float32)
        net, weights = net_of(arguments, sparse)
        scores = net.score_candidates(*ids())
        assert calls == [{"sparse": sparse}]
        scores.sum().backward()
        bilinear(*arguments, *ids()).sum().backward()
        for argument, weight in zip(arguments, weights, strict=True):
            torch.testing.assert_close(weight.grad.to_dense(), argument.grad)
        user_ids, item_ids = ids()
        assert torch.equal(net(user_ids, item_ids[:, 0]), scores[:, 0])

    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            ("user_embeddings", nn.Sequential(nn.Embedding(USERS, DIM))),
            ("user_embeddings", nn.Embedding(USERS, DIM, sparse=True)),
            ("item_embeddings", nn.Embedding(ITEMS, DIM, padding_idx=0)),
            ("item_embeddings", nn.Embedding(ITEMS, DIM, max_norm=1.0)),
            ("item_embeddings", nn.Embedding(ITEMS, DIM, scale_grad_by_freq=True)),
            ("item_embeddings", nn.Embedding(ITEMS, DIM, dtype=torch.float64)),
            ("item_embeddings", BloomEmbedding(ITEMS, DIM, compression_ratio=0.9)),
            ("item_biases", type("Special", (nn.Embedding,), {})(ITEMS, 1)),
        ],
    )
    def test_other_layers_are_called(self, calls, name, layer):
        net = BilinearNet(USERS, ITEMS, DIM)
        setattr(net, name, layer)
        net.score_candidates(*ids()).sum().backward()
        assert not calls

    @pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # by torch: ids have no gradients
    @pytest.mark.parametrize("hook", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
    @pytest.mark.parametrize("name", LAYERS)
    def test_layers_with_hooks_are_called(self, calls, name, hook):
        net = BilinearNet(USERS, ITEMS, DIM)
        seen = []
        register = getattr(getattr(net, name), f"register_{hook}_hook")
        register(lambda *arguments: seen.append(arguments))
        net.score_candidates(*ids()).sum().backward()
        assert seen
        assert not calls

    def test_one_user_for_many_items(self, calls):
        net = BilinearNet(USERS, ITEMS, DIM)
        assert net(torch.tensor([1]), torch.tensor([0, 1, 2])).shape == (3,)
        assert not calls


class TestRefusals:
    @pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
    @pytest.mark.parametrize(("name", "place", "size"), [("user_ids", 0, USERS), ("item_ids", 1, ITEMS)])
    def test_ids_out_of_range(self, dtype, name, place, size):
        for value in (-1, size, 2**31 - 1, -(2**31)):
            both = ids(dtype)
            both[place].view(-1)[-1] = value
            with pytest.raises(ValueError, match=rf"{name} must be in \[0, {size}\), got {value}$"):
                bilinear(*tables(), *both)

    @pytest.mark.parametrize(
        ("place", "change", "message"),
        [
            (0, lambda table: table[0], r"user_vectors must be .* of shape \(U, D\)"),
            (0, lambda table: table[:, :0].contiguous(), r"user_vectors must not be empty, got shape \(5, 0\)"),
            (0, lambda table: table.half(), "user_vectors must be float32, bfloat16 or float64"),
            (0, lambda table: table.T.contiguous().T, r"user_vectors must be contiguous, got strides \(1, 5\)"),
            (1, lambda table: table[:, 0], r"user_biases must be .* of shape \(5, 1\) .* of shape \(5,\)"),
            (1, lambda table: table[1:], r"user_biases must be .* of shape \(5, 1\) .* of shape \(4, 1\)"),
            (2, lambda table: table[:, 1:].contiguous(), r"item_vectors must be .* of shape \(7, 3\) .* \(7, 2\)"),
            (2, lambda table: table.sum(), r"item_vectors must be .* got .* of shape \(\)"),
            (2, lambda table: table.float(), "item_vectors must be torch.float64 .* got torch.float32"),
            (2, lambda table: table.T.contiguous().T, "item_vectors must be contiguous"),
            (3, lambda table: table[:3], r"item_biases must be .* of shape \(7, 1\) .* \(3, 1\)"),
            (3, lambda table: table.to("meta"), "item_biases must be .* on cpu, got .* on meta"),
        ],
    )
    def test_tables(self, place, change, message):
        arguments = tables(requires_grad=False)
        arguments[place] = change(arguments[place])
        with pytest.raises(ValueError, match=message):
            bilinear(*arguments, *ids())

    @pytest.mark.parametrize(("place", "name"), [(0, "user_vectors"), (2, "item_vectors")])
    def test_tables_without_a_row(self, place, name):
        arguments = tables()
        arguments[place : place + 2] = [table[:0] for table in arguments[place : place + 2]]
        with pytest.raises(ValueError, match=rf"{name} must not be empty, got shape \(0, 3\)"):
            bilinear(*arguments, *ids())

    @pytest.mark.parametrize(
        ("user_ids", "item_ids", "message"),
        [
            (torch.zeros(2), torch.zeros(2, 1).long(), "user_ids must be int32 or int64 .* got torch.float32"),
            (torch.zeros(2, 1).long(), torch.zeros(2, 1).long(), r"user_ids must be .* \(B,\) on cpu.* \(2, 1\)"),
            (torch.zeros(2).long(), torch.zeros(2).long(), r"item_ids must be .* \(B, C\) on cpu, .* \(2,\)"),
            (torch.zeros(2).long(), torch.zeros(3, 1).long(), "item_ids must have one row per user id, 2, got 3"),
            (torch.zeros(2).long(), torch.zeros(2, 1, device="meta").long(), "item_ids must be .* on cpu, .* meta"),
        ],
    )
    def test_ids(self, user_ids, item_ids, message):
        with pytest.raises(ValueError, match=message):
            bilinear(*tables(), user_ids, item_ids)

    def test_backends_that_cannot_run(self, monkeypatch):
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        reason = "it runs on CUDA devices" if importlib.util.find_spec("triton") else "triton is not installed"
        with pytest.raises(RuntimeError, match=f"backend 'triton' cannot run bilinear on cpu: {reason}"):
            bilinear(*tables(torch.float32), *ids(), backend="triton")
        with pytest.raises(ValueError, match="backend must be one of"):
            bilinear(*tables(), *ids(), backend="native")
