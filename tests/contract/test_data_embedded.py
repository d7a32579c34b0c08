import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from edgese.data import embedded
from edgese.data.embedded import parity_pictures, sample_pictures
from edgese.data.preprocessing import preprocess
from edgese.errors import MissingDependency
from edgese.records.model import Preprocessing

SMALL = Preprocessing(height=32, width=48)


def test_the_two_photographs_are_there():
    found = sample_pictures()
    assert [(name, image.mode, image.size) for name, image in found] == [
        ("china.jpg", "RGB", (640, 427)),
        ("flower.jpg", "RGB", (640, 427)),
    ]


def test_reading_them_does_not_import_scikit_learn():
    code = (
        "import sys; from edgese.data.embedded import sample_pictures; sample_pictures();"
        "sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("spec", [None, importlib.util.spec_from_loader("sklearn", None)])
def test_without_scikit_learn_the_install_command_is_told(monkeypatch, spec):
    monkeypatch.setattr(embedded, "find_spec", lambda _: spec)
    with pytest.raises(MissingDependency) as caught:
        sample_pictures()
    assert caught.value.hint == "pip install 'edgese[train]'"


def test_parity_pictures_are_prepared_all_different_and_always_the_same():
    pictures = parity_pictures(SMALL, 12)
    assert (pictures.shape, pictures.dtype) == ((12, 3, 32, 48), np.dtype("float32"))
    distances = np.abs(pictures[:, None] - pictures[None]).mean(axis=(2, 3, 4))
    assert distances[~np.eye(12, dtype=bool)].min() > 0.1
    assert (parity_pictures(SMALL, 12) == pictures).all()


def test_the_first_two_parity_pictures_are_the_photographs_whole():
    whole = np.stack([preprocess(image, SMALL) for _, image in sample_pictures()])
    assert (parity_pictures(SMALL, 2) == whole).all()


def test_more_parity_pictures_begin_with_the_same_ones():
    assert (parity_pictures(SMALL, 9)[:4] == parity_pictures(SMALL, 4)).all()
