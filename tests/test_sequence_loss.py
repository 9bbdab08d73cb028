"""Sampled losses of sequences: the reference against plain PyTorch, who takes the operation, and bad input."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spotfast import backends, losses
from spotfast.layers import BloomEmbedding, ZeroEmbedding
from spotfast.ops.sequence_loss import LOSSES, sequence_loss
from spotfast.optim import DeferredAdam
from spotfast.reference import sequence_loss as reference
from spotfast.sequence import batch_loss
from spotfast.sequence.implicit import NETWORKS, ImplicitSequenceModel
from spotfast.sequence.representations import CNNNet, LSTMNet, MixtureLSTMNet, PoolNet

B, L, D, ITEMS = 3, 4, 5, 11
native = pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension")


def inputs(loss, dtype=torch.float64, slots=3, shape=(B, D, L)):
    slots = slots if loss == "adaptive_hinge" else 1
    B, D, L = shape
    generator = torch.Generator().manual_seed(0)
    floats = [
        torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in ((B, D, L), (ITEMS, D), (ITEMS, 1))
    ]
    positives = torch.randint(0, ITEMS, (B, L), generator=generator)
    negatives = torch.randint(0, ITEMS, (slots, B, L), generator=generator)
    return floats, (positives, negatives, torch.rand(B, L, generator=generator) < 0.7)


def plain(loss, floats, positives, negatives, mask):
    """By all scores at once, and the losses that models use."""
    states, vectors, biases = floats

    def scores(ids):
        return torch.einsum("bdl,...bld->...bl", states, vectors[ids]) + biases[ids].squeeze(-1)

    negative = scores(negatives) if loss == "adaptive_hinge" else scores(negatives[0])
    return getattr(losses, f"{loss}_loss")(scores(positives), negative, mask=mask)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_formula(loss, weighted):
    floats, (positives, negatives, mask) = inputs(loss)
    if weighted:
        mask = mask * torch.rand(mask.shape, dtype=torch.float64)
    value = sequence_loss(*floats, positives, negatives, mask, loss)
    expected = plain(loss, floats, positives, negatives, mask)
    torch.testing.assert_close(value, expected)
    gradients = [torch.autograd.grad(each, floats) for each in (value, expected)]
    torch.testing.assert_close(*gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives(loss):
    floats, others = inputs(loss)
    assert torch.autograd.gradcheck(lambda *leaves: sequence_loss(*leaves, *others, loss), floats)


def value_and_gradients(backend, loss, floats, others, sparse=False):
    value = sequence_loss(*floats, *others, loss, sparse=sparse, backend=backend)
    gradients = torch.autograd.grad(value, floats, torch.tensor(0.7))
    return value, *(gradient.to_dense() if gradient.is_sparse else gradient for gradient in gradients)


@native
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 4), (40, 33, 50)])
@pytest.mark.parametrize("loss", LOSSES)
def test_native_is_the_reference(loss, shape, sparse, isa):
    """Whatever lies in memory as it does for recurrent networks, for convolutions, or for weights."""
    for contiguous in (False, True):
        for weighted in (False, True):
            floats, (positives, negatives, mask) = inputs(loss, torch.float32, shape=shape)
            if contiguous:
                floats[0] = floats[0].detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
            if weighted:
                mask = mask * torch.rand(mask.shape)
            others = positives.int(), negatives, mask
            found = value_and_gradients("native", loss, floats, others, sparse)
            expected = value_and_gradients("reference", loss, floats, others)
            for one, two in zip(found, expected, strict=True):
                torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@native
@pytest.mark.parametrize("sparse", [False, True])
def test_native_gives_the_same_bits_with_any_number_of_threads(sparse, set_threads, isa):
    floats, others = inputs("adaptive_hinge", torch.float32, shape=(90, 9, 50))
    found = []
    for threads in (1, 2, 3, 7):
        set_threads(threads)
        found.append(value_and_gradients("native", "adaptive_hinge", floats, others, sparse))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)


@native
def test_native_reads_nothing_where_the_mask_is_0():
    floats, (positives, negatives, mask) = inputs("adaptive_hinge", torch.float32)
    floats[0].data.masked_fill_(~mask.unsqueeze(1), torch.nan)
    positives[positives == 1], negatives[negatives == 1] = 2, 2
    positives[~mask], negatives[:, ~mask] = 1, 1
    floats[1].data[1] = torch.nan
    for result in value_and_gradients("native", "adaptive_hinge", floats, (positives, negatives, mask)):
        assert result.isfinite().all()


@native
def test_a_nan_does_not_vanish():
    floats, others = inputs("adaptive_hinge", torch.float32)
    floats[1].data[others[1][1][others[2]]] = torch.nan  # of negatives that may not be the highest
    assert sequence_loss(*floats, *others, "adaptive_hinge", backend="native").isnan()


@native
@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("sparse", [False, True])
def test_native_has_no_gradients_of_what_is_frozen(loss, frozen, sparse):
    floats, others = inputs(loss, torch.float32)
    expected = value_and_gradients("native", loss, floats, others, sparse)[1:]
    for place in frozen:
        floats[place].requires_grad_(False)
    sequence_loss(*floats, *others, loss, sparse=sparse).backward(torch.tensor(0.7))
    for place, tensor in enumerate(floats):
        if place in frozen:
            assert tensor.grad is None
        else:
            assert torch.equal(tensor.grad.to_dense() if tensor.grad.is_sparse else tensor.grad, expected[place])


@native
def test_native_refuses_second_derivatives():
    """They would be wrong without a word: its first ones are constants to autograd."""
    floats, others = inputs("bpr", torch.float32)
    with pytest.raises(RuntimeError, match="no second derivatives: backend 'reference' has"):
        torch.autograd.grad(sequence_loss(*floats, *others, "bpr"), floats, create_graph=True)
    value = sequence_loss(*floats, *others, "bpr", backend="reference")
    assert torch.autograd.grad(value, floats, create_graph=True)[0].requires_grad


@native
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_native_is_float32_whatever_the_default(default):
    floats, others = inputs("bpr", torch.float32)
    expected = sequence_loss(*floats, *others, "bpr")
    torch.set_default_dtype(default)
    try:
        value = sequence_loss(*floats, *others, "bpr")
    finally:
        torch.set_default_dtype(torch.float32)
    assert value.dtype == torch.float32
    assert value == expected


@native
@pytest.mark.parametrize("name", ["positives", "negatives"])
@pytest.mark.parametrize("wrong", [-1, ITEMS])
def test_native_names_an_id_out_of_range(name, wrong):
    floats, (positives, negatives, mask) = inputs("bpr", torch.float32)
    {"positives": positives, "negatives": negatives}[name].view(-1)[-1] = wrong
    with pytest.raises(IndexError, match=rf"{name} must be in \[0, 11\), got {wrong}"):
        sequence_loss(*floats, positives, negatives, mask, "bpr")


@pytest.mark.parametrize("rows_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_from_what_the_kernels_hand_on(dtype, rows_dtype):
    """Those of autograd, from the derivatives by both scores of each step."""
    (states, vectors, biases), (positives, negatives, mask) = inputs("bpr", dtype)
    steps, upstream = states.detach().transpose(1, 2), torch.tensor(1.5)
    ids = torch.stack([positives, negatives[0]])
    read = [table.detach()[ids].float().requires_grad_() for table in (vectors, biases)]
    leaf = steps.float().requires_grad_()
    scores = (leaf * read[0]).sum(3) + read[1].squeeze(3)
    scores.retain_grad()
    losses.bpr_loss(*scores, mask=mask).backward(upstream)
    handed_on = scores.grad * mask.sum() / upstream
    found = reference.row_gradients(
        upstream, mask.sum().float(), steps, vectors.detach(), *ids.int(), handed_on, rows_dtype
    )
    assert [gradient.dtype for gradient in found] == [dtype, rows_dtype, torch.float32]
    expected = (leaf.grad.to(dtype), read[0].grad.flatten(0, 2).to(rows_dtype), read[1].grad.flatten(0, 2))
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_sparse_gradients_are_the_dense_ones(loss):
    floats, others = inputs(loss, slots=60)
    of_dense, of_sparse = (
        torch.autograd.grad(sequence_loss(*floats, *others, loss, sparse=sparse), floats) for sparse in (False, True)
    )
    assert [gradient.is_sparse for gradient in of_sparse] == [False, True, True]
    for one, two in zip(of_dense, of_sparse, strict=True):
        torch.testing.assert_close(one, two.to_dense() if two.is_sparse else two)
    assert of_sparse[1]._nnz() <= 2 * B * L  # of two candidates per step, however many there are


@pytest.mark.parametrize("loss", LOSSES)
def test_an_empty_mask(loss):
    floats, (positives, negatives, mask) = inputs(loss)
    value = sequence_loss(*floats, positives, negatives, torch.zeros_like(mask), loss)
    assert value == 0
    assert all(gradient.count_nonzero() == 0 for gradient in torch.autograd.grad(value, floats))


def test_bfloat16_is_computed_in_float32():
    floats, others = inputs("bpr", torch.bfloat16)
    value = sequence_loss(*floats, *others, "bpr")
    assert value.dtype == torch.float32
    assert value == sequence_loss(*(tensor.float() for tensor in floats), *others, "bpr")
    assert {gradient.dtype for gradient in torch.autograd.grad(value, floats)} == {torch.bfloat16}


def test_no_tensor_of_all_negatives():
    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            result = function(*arguments, **(keywords or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, torch.Tensor):
                    self.largest = max(self.largest, tensor.numel())
            return result

    floats, others = inputs("adaptive_hinge", slots=60)
    with Watch() as watch:
        sequence_loss(*floats, *others, "adaptive_hinge").backward()
    assert watch.largest <= 60 * B * L  # the scores


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", [PoolNet, LSTMNet, CNNNet])
def test_trains_the_built_in_networks(kind, loss, sparse):
    """As their own scores do, with deferred Adam: rows are up to date when they are read."""
    nets = [kind(40, D, sparse=sparse) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers = [DeferredAdam(net, lr=0.05) for net in nets]
    generator = torch.Generator().manual_seed(0)
    for step in range(8):
        sequences = torch.randint(1, 40, (2, L), generator=generator)
        sequences[0, : step % 4] = 0
        negatives = torch.randint(1, 40, (2, L, 3 if loss == "adaptive_hinge" else 1), generator=generator)
        expected = batch_loss.loss_from_scores(nets[0], loss, sequences, negatives)
        got = batch_loss.loss_in_one(nets[1], batch_loss.tables_of(nets[1]), loss, sequences, negatives)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        for value, optimizer in zip((expected, got), optimizers, strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    for optimizer in optimizers:
        optimizer.flush()
    for trained, expected in zip(nets[1].parameters(), nets[0].parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-3, atol=1e-4)


@native
@pytest.mark.parametrize("representation", ["pooling", "lstm", "cnn", "mixture"])
def test_models_train_by_the_operation(data, representation, monkeypatch):
    calls = []
    monkeypatch.setattr(
        batch_loss,
        "sequence_loss",
        lambda *arguments, **keywords: calls.append(1) or sequence_loss(*arguments, **keywords),
    )
    net = NETWORKS[representation](ITEMS, D)
    sgd = {"optimizer_func": lambda parameters: torch.optim.SGD(list(parameters), lr=1.0, nesterov=True, momentum=0.9)}
    ImplicitSequenceModel("bpr", net, n_iter=1, batch_size=16, random_state=0, **sgd).fit(data)
    assert bool(calls) == (representation != "mixture")


@pytest.fixture
def data():
    from spotfast.interactions import SequenceInteractions

    generator = torch.Generator().manual_seed(0)
    return SequenceInteractions(torch.randint(1, ITEMS, (40, L), generator=generator).numpy(), num_items=ITEMS)


def changed(kind=PoolNet, **attributes):
    net = kind(ITEMS, D)
    for name, value in attributes.items():
        setattr(net, name, value)
    return net


def hooked():
    net = PoolNet(ITEMS, D)
    net.item_embeddings.register_forward_hook(lambda *arguments: None)
    return net


@pytest.mark.parametrize(
    "make",
    [
        lambda: MixtureLSTMNet(ITEMS, D),
        lambda: PoolNet(ITEMS, D, BloomEmbedding(ITEMS, D, 0.9)),
        lambda: PoolNet(ITEMS, D, torch.nn.Embedding(ITEMS, D, padding_idx=3)),
        lambda: PoolNet(ITEMS, D, torch.nn.Embedding(ITEMS, D, max_norm=1.0)),
        lambda: changed(item_biases=ZeroEmbedding(ITEMS, 1, sparse=True)),
        lambda: changed(item_biases=ZeroEmbedding(ITEMS - 1, 1)),
        lambda: changed(score_candidates=lambda *arguments: None),
        lambda: changed(type("Subclass", (PoolNet,), {})),
        hooked,
        lambda: torch.nn.Linear(2, 2),
    ],
)
def test_networks_whose_scores_are_their_own(make):
    assert batch_loss.tables_of(make()) is None
    assert batch_loss.tables_of(PoolNet(ITEMS, D)) is not None


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"loss": "logistic"}, ValueError, "loss must be one of .*, got 'logistic'"),
        (
            {"states": torch.zeros(B, D)},
            ValueError,
            r"states must be of shape \(B, D, L\), all at least 1, got \(3, 5\)",
        ),
        ({"states": torch.zeros(B, D, 0)}, ValueError, r"states must be .* got \(3, 5, 0\)"),
        ({"item_vectors": torch.zeros(ITEMS, 4)}, ValueError, r"item_vectors must be of shape \(I, 5\), got \(11, 4\)"),
        ({"item_biases": torch.zeros(ITEMS)}, ValueError, r"item_biases must be of shape \(11, 1\), got \(11,\)"),
        ({"positives": torch.zeros(L, B).long()}, ValueError, r"positives must be of shape \(3, 4\), got \(4, 3\)"),
        ({"positives": torch.zeros(B, L)}, TypeError, "positives must be int64 or int32, got torch.float32"),
        ({"negatives": torch.zeros(B, L).long()}, ValueError, r"negatives must be of shape \(n, 3, 4\), n >= 1, got"),
        ({"negatives": torch.zeros(0, B, L).long()}, ValueError, r"n >= 1, got \(0, 3, 4\)"),
        (
            {"negatives": torch.zeros(2, B, L).long()},
            ValueError,
            "negatives must be one per step for loss 'bpr'.*got 2",
        ),
        ({"mask": torch.ones(B)}, ValueError, r"mask must be of shape \(3, 4\), got \(3,\)"),
        ({"item_vectors": torch.zeros(ITEMS, D).long()}, TypeError, "item_vectors must be a float tensor, got"),
        (
            {"mask": torch.ones(B, L, device="meta")},
            RuntimeError,
            "mask must be on the device of states, cpu, got meta",
        ),
        ({"backend": "numba"}, ValueError, "backend must be one of"),
        (
            {"backend": "native"},
            RuntimeError,
            "backend 'native' cannot run sequence_loss: states is torch.float64, not",
        ),
        ({"backend": "triton"}, RuntimeError, "backend 'triton' cannot run sequence_loss: states is torch.float64"),
        ({"positives": torch.full((B, L), ITEMS)}, IndexError, "index out of range"),
    ],
)
def test_bad_input(changes, error, message):
    floats, (positives, negatives, mask) = inputs("bpr")
    given = dict(zip(("states", "item_vectors", "item_biases"), floats, strict=True))
    given |= {"positives": positives, "negatives": negatives, "mask": mask, "loss": "bpr"}
    with pytest.raises(error, match=message):
        sequence_loss(**{**given, **changes})
