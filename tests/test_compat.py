"""`spotfast.install`: `spotlight.X` is `spotfast.X`."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import spotfast
from spotfast.compat import InheritedPath
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions

GUIDE = Path(__file__).parents[1] / "docs" / "coming_from_spotlight.md"

SURFACE = {
    "interactions": "Interactions SequenceInteractions",
    "cross_validation": "random_train_test_split shuffle_interactions user_based_train_test_split",
    "datasets.amazon": "get_amazon_dataset",
    "datasets.goodbooks": "get_goodbooks_dataset",
    "datasets.movielens": "VARIANTS get_movielens_dataset",
    "datasets.synthetic": "generate_sequential",
    "evaluation": "mrr_score precision_recall_score rmse_score sequence_mrr_score sequence_precision_recall_score",
    "factorization.explicit": "ExplicitFactorizationModel",
    "factorization.implicit": "ImplicitFactorizationModel",
    "factorization.representations": "BilinearNet",
    "layers": "BloomEmbedding SEEDS ScaledEmbedding ScaledEmbeddingBag ZeroEmbedding",
    "losses": "adaptive_hinge_loss bpr_loss hinge_loss logistic_loss pointwise_loss poisson_loss regression_loss",
    "sampling": "sample_items",
    "sequence.implicit": "ImplicitSequenceModel",
    "sequence.representations": "CNNNet LSTMNet MixtureLSTMNet PADDING_IDX PoolNet",
    "torch_utils": "assert_no_grad cpu gpu minibatch set_seed shuffle",
}


def spotlight_modules():
    return [name for name in sys.modules if name.partition(".")[0] == "spotlight"]


@pytest.fixture(autouse=True)
def uninstalled(monkeypatch):
    """No test finds `spotlight` installed, and none leaves it behind."""
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if type(finder).__name__ != "_Finder"])
    for name in spotlight_modules():
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in spotlight_modules():
        del sys.modules[name]


@pytest.fixture
def other(monkeypatch, tmp_path):
    """Another package named `spotlight`, which can be imported."""
    package = tmp_path / "spotlight"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interactions.py").write_text("MINE = True")
    monkeypatch.syspath_prepend(tmp_path)
    return package


class TestInstall:
    @pytest.mark.parametrize("name", SURFACE)
    def test_modules_are_the_same_objects(self, name):
        spotfast.install()
        old, new = importlib.import_module(f"spotlight.{name}"), importlib.import_module(f"spotfast.{name}")
        assert old is new is sys.modules[f"spotlight.{name}"]
        assert new.__name__ == new.__spec__.name == f"spotfast.{name}"
        assert all(hasattr(old, public) for public in SURFACE[name].split())

    @pytest.mark.parametrize(
        ("statement", "expression"),
        [
            ("import spotlight", "spotlight"),
            ("import spotlight.evaluation as e", "e"),
            ("from spotlight import losses", "losses"),
            ("import spotlight.factorization.explicit", "spotlight.factorization.explicit"),
            ("from spotlight.factorization.explicit import ExplicitFactorizationModel as M", "M"),
            ("import spotlight", "spotlight.__version__"),
        ],
    )
    def test_forms_of_import(self, statement, expression):
        spotfast.install()
        old, new = {}, {}
        exec(statement, old)
        exec(statement.replace("spotlight", "spotfast"), new)
        assert eval(expression, old) is eval(expression.replace("spotlight", "spotfast"), new)

    def test_nothing_is_imported_before_it_is_asked_for(self, run_python):
        code = "import spotfast, sys\nspotfast.install()\nimport spotlight\n"
        code += "print([name for name in ('numpy', 'torch', 'numba') if name in sys.modules])"
        assert run_python(code) == "[]\n"

    def test_without_it_there_is_no_spotlight(self, run_python):
        code = "import spotfast.interactions, importlib.util\nprint(importlib.util.find_spec('spotlight'))"
        assert run_python(code) == "None\n"

    def test_what_does_not_exist(self):
        spotfast.install()
        for name in ("spotlight.nothing", "spotlight.factorization.nothing"):
            with pytest.raises(ModuleNotFoundError, match=f"No module named '{re.escape(name)}'"):
                importlib.import_module(name)
        with pytest.raises(ModuleNotFoundError, match="spotlights"):
            importlib.import_module("spotlights")

    def test_modules_can_be_looked_up(self):
        spotfast.install()
        for name in ("interactions", "evaluation"):
            old, new = (importlib.util.find_spec(f"{package}.{name}") for package in ("spotlight", "spotfast"))
            assert (old.origin, old.submodule_search_locations) == (new.origin, new.submodule_search_locations)

    def test_a_second_call_changes_nothing(self):
        spotfast.install()
        importlib.import_module("spotlight.losses")
        before = list(sys.meta_path), spotlight_modules()
        spotfast.install()
        assert (list(sys.meta_path), spotlight_modules()) == before

    def test_a_second_call_mends_what_was_undone(self):
        spotfast.install()
        del sys.modules["spotlight"]
        spotfast.install()
        assert sys.modules["spotlight"] is spotfast
        del sys.modules["spotlight"]
        assert importlib.import_module("spotlight") is spotfast

    def test_another_package_that_is_imported_already(self, other):
        importlib.import_module("spotlight")
        before = list(sys.meta_path)
        with pytest.raises(ImportError, match=re.escape(str(other / "__init__.py"))) as error:
            spotfast.install()
        assert error.value.name == "spotlight"
        assert "before anything imports spotlight" in str(error.value)
        assert sys.meta_path == before

    @pytest.mark.usefixtures("other")
    def test_what_another_package_left_behind(self):
        importlib.import_module("spotlight.interactions")
        del sys.modules["spotlight"]
        with pytest.raises(ImportError, match=r"spotlight\.interactions has been imported already"):
            spotfast.install()

    @pytest.mark.usefixtures("other")
    def test_another_package_that_is_not_imported_yet(self):
        spotfast.install()
        assert importlib.import_module("spotlight.interactions") is importlib.import_module("spotfast.interactions")


def as_spotlight(value):
    """Pickle with spotfast's classes under the names that Spotlight gives them."""
    return pickle.dumps(value, protocol=2).replace(b"cspotfast.", b"cspotlight.")


class TestPickles:
    def test_interactions(self):
        spotfast.install()
        loaded = pickle.loads(as_spotlight(Interactions([0, 1], [2, 3])))
        assert type(loaded) is Interactions
        np.testing.assert_array_equal(loaded.item_ids, [2, 3])

    def test_a_model_of_spotlight_hands_out_its_network(self):
        spotfast.install()
        net = BilinearNet(3, 5, 4)
        old = ImplicitFactorizationModel.__new__(ImplicitFactorizationModel)
        old.__dict__.update(_net=net, _num_users=3, _num_items=5, _random_state=np.random.RandomState(0))
        loaded = pickle.loads(as_spotlight(old))
        model = ImplicitFactorizationModel(representation=loaded._net, n_iter=0)
        model.fit(Interactions([0], [0], num_users=3, num_items=5))
        with torch.no_grad():
            expected = net(torch.full((5,), 2), torch.arange(5))
        np.testing.assert_allclose(model.predict(2), expected, rtol=1e-5, atol=1e-6)

    def test_without_install(self):
        with pytest.raises(ModuleNotFoundError, match="spotlight"):
            pickle.loads(as_spotlight(Interactions([0], [1])))

    def test_a_path_takes_install_along(self):
        path = InheritedPath("folder")
        sent = pickle.dumps(["", path])
        assert "spotlight" not in sys.modules
        received = pickle.loads(sent)
        assert sys.modules["spotlight"] is spotfast
        assert received == ["", "folder"]
        assert type(received[1]) is InheritedPath


def test_the_guide_lists_every_name():
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    table = {module: sorted(re.findall(r"`(\w+)`", names)) for module, names in rows if module in SURFACE}
    assert table == {module: sorted(names.split()) for module, names in SURFACE.items()}
