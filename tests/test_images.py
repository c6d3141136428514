"""Reading image files: exact pixels of complete files, and an error that names the file for all others."""

import io
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from stages.sources.images.reading import damage, read_image
from stages.system.errors import InputError

SAMPLES = Path(__file__).parents[1] / "../shared/data/samples"
PHOTO = SAMPLES / "wflw/images/7_Cheering_Cheering_7_16.jpg"
has_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="../shared/data is absent")


@pytest.fixture
def gradient():
    """(48, 64, 3) uint8: smooth colours, so that JPEG keeps them within a few grey levels."""
    y, x = np.mgrid[:48, :64]
    return np.stack([4 * x, 5 * y, 128 + x - y], -1).astype(np.uint8)


def saved(path, pixels, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@has_samples
def test_photographs_are_read_as_by_pillow():
    photos = sorted(p for p in SAMPLES.rglob("*") if p.suffix in (".jpg", ".png"))
    assert len(photos) >= 6
    for photo in photos:
        assert np.array_equal(read_image(photo), np.asarray(Image.open(photo).convert("RGB")))


def test_a_png_named_jpg_and_a_jpeg_named_png_are_read_by_content(tmp_path, gradient):
    png = saved(tmp_path / "a.jpg", gradient, format="PNG")
    jpeg = saved(tmp_path / "b.png", gradient, format="JPEG", quality=95)
    assert np.array_equal(read_image(png), gradient)
    assert np.abs(read_image(jpeg).astype(int) - gradient).max() < 12


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_every_kind_of_png_becomes_its_own_rgb(tmp_path, gradient, mode):
    path = saved(tmp_path / "a.png", gradient, mode)
    assert np.array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


def test_alpha_is_dropped_and_the_stored_colours_stay(tmp_path, gradient):
    transparent = np.concatenate([gradient, np.zeros((48, 64, 1), np.uint8)], -1)
    assert np.array_equal(read_image(saved(tmp_path / "a.png", transparent)), gradient)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_become_eight(tmp_path, gradient, channels):
    wide = np.concatenate([gradient, gradient[..., :1]], -1)[..., :channels].astype(np.uint16) * 257
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), wide if channels == 1 else wide[..., [2, 1, 0, 3][:channels]])
    expected = np.repeat(gradient[..., :1], 3, -1) if channels == 1 else gradient
    assert np.array_equal(read_image(path), expected)


def test_grey_and_cmyk_jpegs_are_read_in_their_true_colours(tmp_path, gradient):
    grey = saved(tmp_path / "grey.jpg", gradient, "L", quality=95)
    assert np.array_equal(read_image(grey), np.asarray(Image.open(grey).convert("RGB")))
    cmyk = saved(tmp_path / "cmyk.jpg", gradient, "CMYK", quality=95)
    assert np.abs(read_image(cmyk).astype(int) - gradient).max() < 16


def test_an_exif_orientation_is_ignored(tmp_path, gradient):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would rotate it by 90°
    rotated = saved(tmp_path / "a.jpg", gradient, exif=exif, quality=95)
    assert read_image(rotated).shape == gradient.shape
    assert np.abs(read_image(rotated).astype(int) - gradient).max() < 12


def jpeg_with_thumbnail(pixels):
    """A JPEG whose header contains another JPEG, as written by cameras."""
    small, big = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels[::4, ::4]).save(small, "JPEG")
    Image.fromarray(pixels).save(big, "JPEG", quality=95)
    payload = b"Exif\0\0" + small.getvalue()
    return big.getvalue()[:2] + b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload + big.getvalue()[2:]


@pytest.mark.parametrize("kept", [0.999, 0.9, 0.6, 0.1])
def test_a_truncated_jpeg_is_refused_with_or_without_a_thumbnail(tmp_path, gradient, kept):
    whole = jpeg_with_thumbnail(np.tile(gradient, (4, 4, 1)))
    (tmp_path / "whole.jpg").write_bytes(whole)
    assert read_image(tmp_path / "whole.jpg").shape == (192, 256, 3)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=r"cut\.jpg.*truncated"):
        read_image(path)
    path.write_bytes(path.read_bytes() + bytes(2000))  # left by an interrupted download into preallocated space
    with pytest.raises(InputError, match=r"cut\.jpg.*truncated"):
        read_image(path)


def test_a_file_that_is_not_a_complete_image_is_refused_by_name(tmp_path, gradient):
    buffer = io.BytesIO()
    Image.fromarray(gradient).save(buffer, "PNG")
    png = buffer.getvalue()
    floats = io.BytesIO()
    Image.fromarray(gradient[..., 0].astype(np.float32)).save(floats, "TIFF")
    cases = {
        "empty.jpg": (b"", "empty"),
        "cut.png": (png[:-30], "truncated"),
        "flat.png": (png[:16] + bytes(4) + png[20:], "zero size"),
        "flat.jpg": (bytes.fromhex("ffd8ffc0000b080000004001011100ffd9"), "zero size"),
        "page.jpg": (b"<!DOCTYPE html><html>Not found</html>", "not a readable image"),
        "float.tiff": (floats.getvalue(), "mode F"),
        "bad.png": (png[:60] + bytes(20) + png[80:], "damaged"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=reason) as raised:
            read_image(path)
        assert str(path) in str(raised.value)
    assert damage(png) is None


@has_samples
def test_reading_costs_little_more_than_decoding():
    def best(read):
        times = []
        for _ in range(15):
            start = time.perf_counter()
            read()
            times.append(time.perf_counter() - start)
        return min(times)

    assert best(lambda: read_image(PHOTO)) < 1.5 * best(lambda: cv2.imread(str(PHOTO)))
