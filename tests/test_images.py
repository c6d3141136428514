"""Reading image files: exact pixels of complete files, and an error that names the file for all others."""

import ast
import hashlib
import io
import os
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from stages.sources.images import reading
from stages.sources.images.checksums import image_checksums
from stages.sources.images.reading import damage, lacks_pixels, orientation, read_image
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


# ---- a file that was cut, with or without an end marker

END = b"\xff\xd9"
JPEGS = [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}]


@pytest.fixture
def photograph(gradient):
    """(96, 128, 3) uint8 with noise, so that every block has many coefficients."""
    noise = np.random.default_rng(0).integers(0, 30, (96, 128, 3))
    return (np.tile(gradient, (2, 2, 1)) + noise).clip(0, 255).astype(np.uint8)


def encoded(pixels, mode, kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def sound(data: bytes) -> bool:
    return not (damage(data) or lacks_pixels(data))


def pillow_pixels(data: bytes) -> bytes | None:
    """None where Pillow sees that the file is cut."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.tobytes()
    except OSError:
        return None


@pytest.mark.parametrize("options", JPEGS, ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_without_its_end_marker_is_read_with_the_same_pixels(tmp_path, photograph, mode, options):
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    whole.write_bytes(encoded(photograph, mode, quality=90, **options))
    for lost in (1, 2):
        cut.write_bytes(whole.read_bytes()[:-lost])
        assert sound(cut.read_bytes())
        assert np.array_equal(read_image(cut), read_image(whole))


@pytest.mark.parametrize("options", JPEGS, ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_cut_anywhere_is_refused_unless_no_pixel_changes(photograph, mode, options):
    whole = encoded(photograph, mode, quality=90, **options)
    first_scan, truth, refused = whole.index(b"\xff\xda") + 14, pillow_pixels(whole), 0
    assert sound(whole)
    for stop in [*range(first_scan, len(whole) - 20, len(whole) // 40), *range(len(whole) - 20, len(whole) - 2)]:
        unchanged = pillow_pixels(whole[:stop] + END) == truth
        for tail in (b"", END, bytes(3000)):
            accepted = sound(whole[:stop] + tail)
            refused += not accepted
            assert unchanged or not accepted, (stop, tail[:2])
    assert refused > 100


def test_a_jpeg_with_other_data_after_its_end_is_whole(photograph):
    assert sound(encoded(photograph, "RGB") + b"sent by a camera" + bytes(5000))


@pytest.mark.parametrize("end", [END, b"\xff\xff" + END, b"\xff\xff", b"\xff", bytes(3000), b"\0" + END])
def test_padding_before_an_end_marker_that_may_be_lost_does_not_matter(photograph, end):
    for options in JPEGS:
        assert sound(encoded(photograph, "RGB", **options)[:-2] + end)


def test_a_progressive_jpeg_that_lacks_its_last_scans_is_refused(photograph):
    whole = encoded(photograph, "RGB", progressive=True)
    starts = [i for i in range(len(whole)) if whole.startswith(b"\xff\xda", i)]
    assert len(starts) > 5
    for start in starts[1:]:
        assert lacks_pixels(whole[:start] + END)


@has_samples
def test_photographs_of_the_benchmarks_are_whole():
    for photo in sorted(p for p in SAMPLES.rglob("*") if p.suffix in (".jpg", ".png")):
        assert sound(photo.read_bytes()), photo


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.98])
def test_a_png_cut_within_its_rows_is_refused_with_or_without_an_end_chunk(photograph, mode, kept):
    whole = encoded(photograph, mode, "PNG")
    assert sound(whole)
    start = whole.index(b"IDAT") - 4
    length = int.from_bytes(whole[start : start + 4], "big")
    rows = whole[start + 8 : start + 8 + int(kept * length)]
    end = png_chunk(b"IEND", b"")
    assert not sound(whole[:start] + png_chunk(b"IDAT", rows) + end), "sound chunks, too few rows"
    assert not sound(whole[:start] + whole[start : start + 8] + rows + end), "a chunk that runs over the end"
    assert not sound(whole[: start + 8 + len(rows)])


def test_a_png_with_a_wrong_checksum_is_refused_where_it_concerns_pixels(photograph):
    whole = encoded(photograph, "RGB", "PNG")
    middle = whole.index(b"IDAT") + 500
    assert not sound(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    note = png_chunk(b"tEXt", b"Author\0me")
    place = whole.index(b"IDAT") - 4
    assert sound(whole[:place] + note[:-1] + bytes([note[-1] ^ 1]) + whole[place:])


def test_an_interlaced_png_is_whole_and_refused_without_its_last_pass():
    width, height = 13, 9
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    image = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    rows = [b"".join(b"\0" + row.tobytes() for row in image[y::dy, x::dx]) for x, y, dx, dy in passes]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1))

    def with_passes(n: int) -> bytes:
        data = png_chunk(b"IDAT", zlib.compress(b"".join(rows[:n])))
        return b"\x89PNG\r\n\x1a\n" + header + data + png_chunk(b"IEND", b"")

    assert sound(with_passes(7))
    assert pillow_pixels(with_passes(7)) == image.tobytes()
    assert not sound(with_passes(6))


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_other_formats_are_read_whole_and_refused_when_cut(tmp_path, photograph, kind):
    whole = encoded(photograph, "RGB", kind)
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert sound(whole)
    assert np.array_equal(read_image(path), photograph)
    assert not sound(whole[: len(whole) // 2])


# ---- what is no image, and formats that are not read


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n", "EPS"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "WebP"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path, content, name):
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"face.jpg: it is a file of format {name}, .*Convert it to JPEG or PNG"):
        read_image(path)


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    """Every call of a function in the project's code."""
    files = (Path(__file__).parents[1] / "stages").rglob("*.py")
    nodes = [(file, node) for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return [(file, node) for file, node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def test_pillow_is_asked_for_the_formats_that_are_meant_wherever_it_opens_a_file():
    """Whatever first bytes it has, no file gets to Ghostscript."""
    assert len(calls("Image.open")) >= 4
    for file, call in calls("Image.open"):
        assert [keyword.arg for keyword in call.keywords] == ["formats"], f"{file}:{call.lineno}"
    assert not {"EPS", "PDF", "PS", "WMF"} & set(reading._FORMATS)


def test_every_stage_reads_images_by_the_datasets_orientation():
    # the `decode` of an exported graph is that of heat maps
    found = [(file, call) for name in ("read_image", "decode") for file, call in calls(name)]
    readers = [(file, call) for file, call in found if file.parent.name != "exporting"]
    assert {file.stem for file, _ in readers} == {
        "preprocess", "detect", "predict", "evaluate_weights", "methods", "reading", "sheet", "media", "faces",
    }  # fmt: skip
    for file, call in readers:
        turned = ast.unparse(call.args[-1])  # a person's own photographs are always turned as EXIF says
        assert "orientation" in turned or (file.stem in ("media", "faces") and turned == "'exif'"), (
            f"{file}:{call.lineno}"
        )


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_only_regular_files_are_read(tmp_path, make):
    path = tmp_path / "face.jpg"
    make(path)
    with pytest.raises(OSError, match=r"no regular file|Is a directory") as raised:
        read_image(path)
    _, faults, _ = image_checksums(tmp_path, ["face.jpg"])
    assert faults == [f"{path}: cannot be read ({raised.value.strerror})"]


def test_a_link_to_an_image_is_read(tmp_path, gradient):
    path = saved(tmp_path / "a.png", gradient)
    (tmp_path / "link.png").symlink_to(path)
    assert np.array_equal(read_image(tmp_path / "link.png"), gradient)


def test_an_image_that_claims_more_pixels_than_any_camera_gives_is_refused(monkeypatch, gradient):
    huge = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", huge) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    assert "claims 60000×60000 px" in damage(png)
    bitmap = bytearray(encoded(gradient, "RGB", "BMP"))
    bitmap[18:26] = struct.pack("<ii", 60000, 60000)
    assert "claims more pixels" in damage(bytes(bitmap))
    monkeypatch.setattr(reading, "MAX_PIXELS", 48 * 64 - 1)
    for kind in ("JPEG", "PNG", "BMP"):
        assert "claims 64×48 px" in damage(encoded(gradient, "RGB", kind))


# ---- EXIF orientation


def exif(value):
    tags = Image.Exif()
    tags[0x0112] = value
    return tags


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_each_orientation_turns_the_pixels_as_a_viewer_does(tmp_path, gradient, value, kind):
    path = saved(tmp_path / "a", gradient, format=kind, exif=exif(value))
    saved(tmp_path / "plain", gradient, format=kind)
    assert orientation(path.read_bytes()) == value
    assert np.array_equal(read_image(path), read_image(tmp_path / "plain"))
    with Image.open(path) as image:
        shown = ImageOps.exif_transpose(image)
        assert np.array_equal(read_image(path, "exif"), np.asarray(shown))


def test_a_photograph_stored_on_its_side_is_turned_to_the_pixels_that_were_shown(tmp_path, gradient):
    path = tmp_path / "a.png"
    Image.fromarray(gradient).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif(6))
    assert np.array_equal(read_image(path, "exif"), gradient)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_does_not_exist_is_upright(tmp_path, gradient, value):
    path = saved(tmp_path / "a.png", gradient, exif=exif(value))
    assert orientation(path.read_bytes()) == 1
    assert np.array_equal(read_image(path, "exif"), gradient)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe1\0\x10Exif\0\0broken"])
def test_the_orientation_of_a_broken_file_is_upright(content):
    assert orientation(content) == 1


def test_checksums_come_with_the_names_of_images_to_remark_on(tmp_path, gradient):
    saved(tmp_path / "a.jpg", gradient)
    saved(tmp_path / "turned.jpg", gradient, exif=exif(3))
    saved(tmp_path / "upright.jpg", gradient, exif=exif(1))
    (tmp_path / "short.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-200] + END)
    names = sorted(os.listdir(tmp_path))
    rows, faults, remarks = image_checksums(tmp_path, names)
    expected = [(tmp_path / name).read_bytes() for name in names if name != "cut.jpg"]
    assert [row[1:] for row in rows] == [(len(data), hashlib.sha256(data).hexdigest()) for data in expected]
    assert [fault.split(": ")[0] for fault in faults] == [str(tmp_path / "cut.jpg")]
    assert remarks == (["turned.jpg"], ["short.jpg"])
    told = " ".join(remarks.sentences("ignore"))
    assert "1 image (turned.jpg) with an EXIF orientation other than upright, read as they are stored" in told
    assert "1 image (short.jpg) in JPEG without its end marker; no pixel is missing" in told
    assert "turned as it says" in remarks.sentences("exif")[0]
    assert [row[0] for row in image_checksums(tmp_path, names, decode=False)[0]] == names


@has_samples
def test_reading_costs_little_more_than_decoding():
    times = {read_image: [], lambda path: cv2.imread(str(path)): []}
    for _ in range(25):  # in turns, since other processes slow some down
        for read, seconds in times.items():
            start = time.perf_counter()
            read(PHOTO)
            seconds.append(time.perf_counter() - start)
    ours, decoding = map(min, times.values())
    assert ours < 1.5 * decoding
