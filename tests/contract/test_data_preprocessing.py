import numpy as np
import pytest

from edgese.data.embedded import sample_pictures
from edgese.data.preprocessing import preprocess, resized_size
from edgese.errors import InputError
from edgese.records.model import Preprocessing

# Both photographs, upright and on their side, with margins that are even, odd and nothing.
SIZES = ((640, 427), (427, 640), (300, 301), (33, 200), (17, 17), (640, 224))
RECIPES = (
    Preprocessing(),
    Preprocessing(height=240, width=240, crop=0.882, interpolation="bilinear"),
    Preprocessing(height=33, width=33, crop=0.9, interpolation="nearest", mean=(0.5, 0.4, 0.3)),
    Preprocessing(height=32, width=32, crop=1.0, interpolation="bilinear", std=(0.1, 0.2, 0.3)),
    Preprocessing(height=96, width=61),
    Preprocessing(height=45, width=128, crop=0.95),
)


@pytest.mark.usefixtures("torchvision_reference")
@pytest.mark.parametrize("p", RECIPES, ids=lambda p: f"{p.height}x{p.width}-{p.interpolation}")
def test_preprocessing_equals_torchvisions_bit_for_bit(p):
    from torchvision import transforms

    reference = transforms.Compose(
        [
            transforms.Resize(
                round(max(p.height, p.width) / p.crop),
                interpolation=transforms.InterpolationMode(p.interpolation),
            ),
            transforms.CenterCrop((p.height, p.width)),
            transforms.ToTensor(),
            transforms.Normalize(p.mean, p.std),
        ]
    )
    for _, photograph in sample_pictures():
        for size in SIZES:
            picture = photograph.resize(size)
            values = preprocess(picture, p)
            assert values.shape == (3, p.height, p.width)
            assert values.dtype == np.float32
            assert values.flags.c_contiguous
            assert (values == reference(picture).numpy()).all()


def test_an_output_that_is_not_square_is_cut_from_a_picture_resized_for_its_larger_side():
    wide = Preprocessing(height=100, width=200, crop=0.8)
    assert resized_size((640, 480), wide) == (333, 250)
    assert resized_size((480, 640), wide) == (250, 333)


def test_a_strip_that_would_not_fit_in_memory_is_an_input_error():
    (_, picture), _ = sample_pictures()
    with pytest.raises(InputError, match="1 x 10000 px would be resized to 256 x 2560000 px"):
        preprocess(picture.resize((1, 10_000)), Preprocessing())
