"""Both factorization models, saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_factorization_models import EXPLICIT, IMPLICIT, ITEMS, TwoTowers, data, fitted, weights_of


@pytest.mark.parametrize("sparse", [False, True])
def test_save_and_load(tmp_path, sparse):
    model = fitted(loss="bpr", sparse=sparse)
    model.save(tmp_path / "model")
    loaded = IMPLICIT.load(tmp_path / "model")
    assert np.array_equal(loaded.predict([1, 2]), model.predict([1, 2]))
    for each in (model, loaded):
        each.fit(data())
    assert torch.equal(weights_of(model), weights_of(loaded))
    assert model.history == loaded.history
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_load_names_what_is_wrong(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(ValueError, match="fitted"):
        IMPLICIT().save(path)
    fitted(representation=TwoTowers()).save(path)
    with pytest.raises(ValueError, match="TwoTowers"):
        IMPLICIT.load(path)
    with pytest.raises(ValueError, match="not a ExplicitFactorizationModel"):
        EXPLICIT.load(path)
    assert IMPLICIT.load(path, representation=TwoTowers()).predict(0).shape == (ITEMS,)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged"):
        IMPLICIT.load(path)
    with pytest.raises(FileNotFoundError, match=r"path must be a file that exists, got .*nothing"):
        IMPLICIT.load(tmp_path / "nothing")


@pytest.mark.parametrize("call", [lambda path: fitted().save(path), IMPLICIT.load], ids=["save", "load"])
@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ValueError, r"path must name a file, got ''"),
        (".", IsADirectoryError, r"path must name a file, got the folder '\.'"),
        (3, TypeError, r"path must be a str or an os\.PathLike, got 3 of type int"),
        (None, TypeError, r"path must be a str or an os\.PathLike, got None of type NoneType"),
        (b"model", TypeError, r"path must be a str or an os\.PathLike, got b'model' of type bytes"),
    ],
)
def test_paths_that_are_no_files(call, path, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"^{message}$"):
        call(path)
    assert not list(tmp_path.iterdir())


def test_saving_into_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be in a folder that exists, got .*missing"):
        fitted().save(tmp_path / "missing" / "model")


@pytest.mark.parametrize("sparse", [False, True])
def test_pickled_by_torch(tmp_path, sparse):
    model = fitted(sparse=sparse)
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert np.array_equal(loaded.predict(3), model.predict(3))
    loaded.fit(data())
    model.fit(data())
    assert torch.equal(weights_of(model), weights_of(loaded))
