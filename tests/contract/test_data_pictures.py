import random
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgese.data.embedded import sample_pictures
from edgese.data.pictures import read_picture
from edgese.errors import InputError

ORIENTATION = 0x0112


def photograph(width: int = 48, height: int = 32) -> Image.Image:
    return sample_pictures()[0][1].resize((width, height))


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.jpg"])
def test_every_format_is_read_as_it_was_written(tmp_path, name):
    options = {"a.webp": {"lossless": True}, "a.jpg": {"quality": 100, "subsampling": 0}}
    image = photograph()
    read = read_picture(saved(image, tmp_path / name, **options.get(name, {})))
    assert read.mode == "RGB"
    assert np.abs(np.int16(read) - np.int16(image)).max() <= (5 if name == "a.jpg" else 0)


def test_a_format_is_told_by_content_and_not_by_name(tmp_path):
    path = saved(photograph(), tmp_path / "a.png")
    assert read_picture(path.rename(tmp_path / "a.jpg")).size == (48, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_the_exif_orientation_is_applied(tmp_path, name, orientation):
    # What turns an upright picture into the one that the camera stored.
    stored_as = {
        1: (),
        2: (Image.Transpose.FLIP_LEFT_RIGHT,),
        3: (Image.Transpose.ROTATE_180,),
        4: (Image.Transpose.FLIP_TOP_BOTTOM,),
        5: (Image.Transpose.TRANSPOSE,),
        6: (Image.Transpose.ROTATE_90,),
        7: (Image.Transpose.TRANSVERSE,),
        8: (Image.Transpose.ROTATE_270,),
    }
    upright = photograph()
    stored = upright
    for step in stored_as[orientation]:
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    read = read_picture(saved(stored, tmp_path / name, exif=exif))
    assert read.size == upright.size
    # A lossy format moves a value a little; a wrong turn moves the mean difference by tens.
    assert np.abs(np.int16(read) - np.int16(upright)).mean() < 12


@pytest.mark.parametrize(
    ("mode", "name"), [("L", "a.jpg"), ("1", "a.png"), ("L", "a.png"), ("LA", "a.png")]
)
def test_greys_become_three_equal_channels(tmp_path, mode, name):
    values = np.asarray(read_picture(saved(photograph().convert(mode), tmp_path / name)))
    assert values.shape == (32, 48, 3)
    assert (values == values[..., :1]).all()
    assert values.std() > 10


def test_16_bit_greys_keep_their_upper_8_bits(tmp_path):
    greys = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    read = np.asarray(read_picture(saved(Image.fromarray(greys), tmp_path / "a.png")))
    assert (read[..., 0] == greys >> 8).all()


def test_cmyk_is_converted(tmp_path):
    image = photograph()
    path = saved(image.convert("CMYK"), tmp_path / "a.jpg", quality=100, subsampling=0)
    read = read_picture(path)
    assert read.mode == "RGB"
    assert np.abs(np.int16(read) - np.int16(image)).mean() < 6


def test_a_palette_is_resolved(tmp_path):
    image = photograph().quantize(16)
    read = read_picture(saved(image, tmp_path / "a.png"))
    assert (np.asarray(read) == np.asarray(image.convert("RGB"))).all()


def test_a_palette_with_transparency_is_resolved(tmp_path):
    image = photograph().quantize(16)
    path = saved(image, tmp_path / "a.png", transparency=bytes([0, 128] * 8))
    assert (np.asarray(read_picture(path)) == np.asarray(image.convert("RGB"))).all()


def test_alpha_is_dropped(tmp_path):
    image = photograph()
    with_alpha = image.copy()
    with_alpha.putalpha(7)
    path = saved(with_alpha, tmp_path / "a.png")
    assert (np.asarray(read_picture(path)) == np.asarray(image)).all()


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    first, second = photograph(), Image.new("RGB", (48, 32), "red")
    path = saved(first, tmp_path / "a.png", save_all=True, append_images=[second])
    assert (np.asarray(read_picture(path)) == np.asarray(first)).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_an_input_error(tmp_path, name, share):
    path = saved(photograph(), tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError) as caught:
        read_picture(path)
    assert caught.value.message.startswith(f"Cannot read the image {path}: ")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"not a picture at all", "it is no JPEG, PNG, WebP or BMP"),
        # Pillow would hand this to Ghostscript.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no JPEG, PNG, WebP or BMP"),
    ],
)
def test_what_is_no_picture_is_an_input_error(tmp_path, content, cause):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=cause):
        read_picture(path)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No such file or directory"):
        read_picture(tmp_path / "a.jpg")


def test_a_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        read_picture(tmp_path)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9)))
    )
    with pytest.raises(InputError, match="3600000000 pixels"):
        read_picture(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "RGB"), ("PNG", "P"), ("WEBP", "RGB"), ("BMP", "P")]
)
def test_damaged_bytes_give_a_picture_or_an_input_error_and_nothing_else(tmp_path, form, mode):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    buffer = BytesIO()
    photograph().convert(mode).save(buffer, form, **({} if form == "BMP" else {"exif": exif}))
    path = tmp_path / "a"
    dice = random.Random(form)
    refused = 0
    for _ in range(300):
        content = bytearray(buffer.getvalue())
        reach = min(len(content), dice.choice([60, 200, len(content)]))
        for _ in range(dice.choice([1, 2, 20])):
            content[dice.randrange(reach)] = dice.randrange(256)
        path.write_bytes(content)
        try:
            read_picture(path)
        except InputError:
            refused += 1
    assert refused > 30
