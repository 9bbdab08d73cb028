"""A CUDA device with too little memory, without one: what torch says of the device, and its errors, are made up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast import device_memory, evaluation, recommendation
from spotfast.device_memory import DeviceMemoryError
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.optim import RowwiseAdagrad
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.training.optimizer_state import state_bytes

USERS, ITEMS, DIM = 20, 30, 8
MODELS = (ImplicitFactorizationModel, ExplicitFactorizationModel, ImplicitSequenceModel)
CUDA = torch.device("cuda")
every_model = pytest.mark.parametrize("cls", MODELS)


def data_for(cls):
    rng = np.random.default_rng(2)
    ids = (rng.integers(1, size, 300).astype(np.int32) for size in (USERS, ITEMS))
    ratings, times = rng.random(300, np.float32), np.arange(300)
    data = Interactions(*ids, ratings=ratings, timestamps=times, num_users=USERS, num_items=ITEMS)
    return data.to_sequence(max_sequence_length=5) if cls is ImplicitSequenceModel else data


def make(cls, **arguments):
    return cls(n_iter=1, batch_size=64, embedding_dim=DIM, random_state=5, **arguments)


def of_sequences(data):
    return not isinstance(data, Interactions)


RANKINGS = {
    "recommend": lambda model, asked, data: recommendation.recommend(model, asked),
    "iter_recommend": lambda model, asked, data: list(recommendation.iter_recommend(model, asked)),
    "similar_items": lambda model, asked, data: model.similar_items(asked),
    "evaluate": lambda model, asked, data: evaluation.evaluate(model, data),
    "scores": lambda model, asked, data: (
        evaluation.sequence_mrr_score if of_sequences(data) else evaluation.mrr_score
    )(model, data),
    "precision": lambda model, asked, data: (
        evaluation.sequence_precision_recall_score(model, data, 1)
        if of_sequences(data)
        else evaluation.precision_recall_score(model, data)
    ),
    "errors": lambda model, asked, data: evaluation.rmse_score(model, data),
}
LOWERS = {
    **dict.fromkeys(("recommend", "iter_recommend", "evaluate"), "memory_budget"),
    **dict.fromkeys(("scores", "precision", "errors"), r"spotfast\.evaluation\.evaluate.*memory_budget"),
    "similar_items": "fewer",
}


def weights_of(cls):
    """Bytes of vectors and biases."""
    rows = ITEMS if cls is ImplicitSequenceModel else USERS + ITEMS
    return 4 * rows * (DIM + 1)


def predictions(model):
    return model.predict([1, 2, 3] if isinstance(model, ImplicitSequenceModel) else 3)


@pytest.fixture
def device(monkeypatch):
    """`device(free, total)`: bytes that a CUDA device has from now on."""

    def device(free, total=10**12):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, total))

    monkeypatch.setattr("spotfast.model._device", lambda use_cuda, device: torch.device(device or "cuda"))
    monkeypatch.setattr("spotfast.model._require_device", lambda asked, device: None)
    return device


@pytest.fixture
def out_of_memory(monkeypatch):
    """`out_of_memory(function)`: a function, by its path, that finds no memory."""

    def fail(*arguments, **keywords):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * 10**6, 10**12))
    return lambda function: monkeypatch.setattr(function, fail)


class TestWhatIsFree:
    def test_what_torch_has_cached_is_free(self, monkeypatch, device):
        device(1000)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
        device_memory.require(CUDA, {"tables": 1500}, "Nothing")
        with pytest.raises(DeviceMemoryError):
            device_memory.require(CUDA, {"tables": 1501}, "Nothing")

    def test_other_devices_are_not_asked(self):
        device_memory.require(torch.device("cpu"), {"tables": 10**18}, "Nothing")

    def test_the_message(self, device):
        device(3 * 10**9, 80 * 10**9)
        with pytest.raises(
            DeviceMemoryError,
            match=r"cuda has too little memory: 12 GB are needed \(weights 4000 MB, moments 8000 MB\), 3000 MB are "
            r"free\. Hope lowers this",
        ):
            device_memory.require(CUDA, {"weights": 4 * 10**9, "moments": 8 * 10**9}, "Hope lowers this")

    def test_more_than_the_whole_device(self, device):
        device(3 * 10**9, 8 * 10**9)
        with pytest.raises(DeviceMemoryError, match=r"3000 MB are free, and the whole device has 8000 MB\. Hope"):
            device_memory.require(CUDA, {"weights": 9 * 10**9}, "Hope lowers this")


@every_model
class TestModels:
    def test_tables_larger_than_what_is_free(self, cls, device, monkeypatch):
        """Nothing is moved, and nothing has changed: fitted elsewhere, the model is what a new one is there."""
        monkeypatch.setattr(torch.nn.Module, "to", lambda *arguments: pytest.fail("moved"))
        needed = 3 * weights_of(cls)
        device(needed - 1)
        model, data = make(cls, use_cuda=True), data_for(cls)
        with pytest.raises(DeviceMemoryError, match=r"(?s)too little memory.*weights.*Adam.*embedding_dim.*device="):
            model.fit(data)
        assert model._net is None
        device(needed)
        with pytest.raises(pytest.fail.Exception, match="moved"):
            model.fit(data)
        monkeypatch.undo()
        model.to("cpu").fit(data)
        twin = make(cls)
        twin.fit(data)
        assert model.history == twin.history

    def test_the_state_of_an_optimizer(self, cls, monkeypatch):
        """Checked before the first epoch of a fit: other optimizers are known only then."""
        model = make(cls, optimizer_func=lambda parameters: torch.optim.Adam(parameters, lr=1e-2))
        monkeypatch.setattr(device_memory, "room", lambda device: (2 * weights_of(cls) - 1, 10**9))
        with pytest.raises(DeviceMemoryError, match=r"the optimizer's state.*optimizer"):
            model.fit(data_for(cls))
        assert model._net is None

    def test_memory_that_runs_out_while_training(self, cls, out_of_memory):
        model, data = make(cls), data_for(cls)
        engine = "sequence.engine.pooling" if cls is ImplicitSequenceModel else "factorization.engine.factorization"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"spotfast.{engine}_epoch", lambda *a, **k: _raise())
            with pytest.raises(DeviceMemoryError, match=r"Tried to allocate 2.00 GiB.*weights.*batch_size") as caught:
                model.fit(data)
            assert isinstance(caught.value.__cause__, torch.cuda.OutOfMemoryError)
            assert model._net is None
        model.fit(data)
        before = predictions(model)
        out_of_memory(f"spotfast.{engine}_epoch")
        with pytest.raises(DeviceMemoryError, match="Tried to allocate"):
            model.fit(data)
        assert np.array_equal(predictions(model), before)
        assert len(model.history) == 1

    def test_memory_that_runs_out_while_predicting(self, cls, out_of_memory):
        model = make(cls)
        model.fit(data_for(cls))
        before = predictions(model)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("spotfast.model.Model._tensor", lambda *arguments: _raise())
            with pytest.raises(DeviceMemoryError, match=r"Tried to allocate 2.00 GiB.*fewer"):
                predictions(model)
        assert np.array_equal(predictions(model), before)

    @pytest.mark.parametrize(
        ("doing", "where"),
        [
            ("recommend", "recommendation.lists.Lists.best"),
            ("recommend", "recommendation.lists.Candidates"),
            ("iter_recommend", "recommendation.lists.Lists.best"),
            ("iter_recommend", "recommendation.lists.Candidates"),
            ("similar_items", "recommendation.lists.Lists.best"),
            ("similar_items", "recommendation.similarity._normalised"),
            ("evaluate", "{evaluation}"),
            ("scores", "{evaluation}"),
            ("precision", "{evaluation}"),
        ],
    )
    def test_memory_that_runs_out_while_ranking(self, cls, doing, where, out_of_memory):
        """The error says what is needed and what lowers it; the network is in the mode it was in."""
        sequences = cls is ImplicitSequenceModel
        model, data = make(cls), data_for(cls)
        model.fit(data)
        asked, ask = model._tensor(np.arange(1, 4)).numpy(), RANKINGS[doing]
        module = "sequence_ranking.own_states" if sequences else "ranking.UserBlocks._rows"
        before = list(map(np.copy, model.recommend(asked)))
        model._net.train()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"spotfast.{where.format(evaluation=f'evaluation.{module}')}", lambda *a, **k: _raise())
            with pytest.raises(DeviceMemoryError, match=rf"Tried to allocate 2.00 GiB.*weights.*{LOWERS[doing]}"):
                ask(model, asked, data)
        assert model._net.training
        assert all(map(np.array_equal, model.recommend(asked), before))

    def test_moving(self, cls, device):
        model = make(cls, device="cpu")
        model.fit(data_for(cls))
        before = predictions(model)
        device(100)
        with pytest.raises(DeviceMemoryError, match=r"weights.*the optimizer's state"):
            model.to("cuda")
        assert model.device == torch.device("cpu")
        assert np.array_equal(predictions(model), before)


class Vectors:
    """A model of anyone's, with vectors."""

    def user_vectors(self):
        return np.ones((USERS, DIM), np.float32)

    def item_vectors(self):
        return np.ones((ITEMS, DIM), np.float32)


@pytest.mark.parametrize("doing", ["recommend", "iter_recommend", "evaluate", "scores", "precision", "errors"])
def test_models_of_others(doing, monkeypatch):
    """What they take is not known, nor which device it was: the allocator's own words say it."""
    monkeypatch.setattr("spotfast.vector_tables._vectors", lambda *arguments: _raise())
    with pytest.raises(
        DeviceMemoryError,
        match=rf"^Too little memory for .*2\.00 GiB\. GPU 0 has a capacity of 5 GiB\. .*{LOWERS[doing]}",
    ):
        RANKINGS[doing](Vectors(), np.arange(1, 4), data_for(ImplicitFactorizationModel))


def _raise():
    raise torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of 5 GiB. Including"
    )


def test_deferred_rows_are_caught_up_if_memory_runs_out(monkeypatch):
    """Between two steps the model is consistent, as after an interrupt."""
    model = make(ImplicitFactorizationModel, sparse=True, representation=None)
    monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
    steps = []

    def step(task, *batch, loss=None):
        steps.append(model._optimizer)
        if len(steps) == 4:
            _raise()
        return original(task, *batch)

    from spotfast.training.factorization import ImplicitTask

    original = ImplicitTask.loss
    model.fit(data_for(ImplicitFactorizationModel))
    monkeypatch.setattr(ImplicitTask, "loss", step)
    with pytest.raises(DeviceMemoryError):
        model.fit(data_for(ImplicitFactorizationModel))
    assert not any(table._rows is not None and table._rows.owing for table in steps[-1]._tables.values())


@pytest.mark.parametrize(
    ("make_optimizer", "numbers"),
    [
        (torch.optim.Adam, 2),
        (lambda parameters: torch.optim.Adam(parameters, amsgrad=True), 3),
        (torch.optim.AdamW, 2),
        (torch.optim.SparseAdam, 2),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1), 0),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9), 1),
        (torch.optim.RMSprop, 1),
        (torch.optim.Adagrad, 1),
        (RowwiseAdagrad, 1 / 8),
    ],
)
def test_what_an_optimizer_keeps(make_optimizer, numbers):
    """Before its first step, and after it."""
    weight = torch.nn.Parameter(torch.zeros(100, 8))
    optimizer = make_optimizer([weight])
    assert sum(state_bytes(optimizer)) == pytest.approx(4 * 800 * numbers, abs=4)  # and a count of steps
    weight.grad = torch.ones(100, 8)
    if isinstance(optimizer, torch.optim.SparseAdam):
        weight.grad = weight.grad.to_sparse(1)
    optimizer.step()
    assert state_bytes(optimizer) == (pytest.approx(4 * 800 * numbers, abs=4), 0)
