from __future__ import annotations

import os
import struct
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from hrnet_deploy.errors import EnvironmentFault, InputError
from hrnet_deploy.runtime import image as image_module
from hrnet_deploy.runtime.image import decode_image, read_image

EXTENSIONS = (".jpg", ".png", ".bmp", ".webp")


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("shape", [(48, 64), (1, 1), (1, 37), (37, 1)])
def test_a_picture_is_read_as_opencv_reads_it(
    pictures: ModuleType, tmp_path: Path, extension: str, shape: tuple[int, int]
) -> None:
    file = tmp_path / f"picture{extension}"
    file.write_bytes(pictures.encoded(extension, pictures.picture(*shape)))
    image_bgr = read_image(file)
    assert image_bgr.dtype == np.uint8
    assert image_bgr.flags.c_contiguous
    assert image_bgr.shape == (*shape, 3)
    np.testing.assert_array_equal(image_bgr, cv2.imread(str(file)))


def test_lossless_webp_and_old_bitmaps_are_read(pictures: ModuleType) -> None:
    original = pictures.picture()
    lossless = cv2.imencode(".webp", original, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    np.testing.assert_array_equal(decode_image(lossless, name="a.webp"), original)
    rows = b"".join(row.tobytes() for row in original[::-1])
    os2 = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26)
    os2 += struct.pack("<IHHHH", 12, 64, 48, 1, 24) + rows
    np.testing.assert_array_equal(decode_image(os2, name="a.bmp"), original)
    top_down = b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54)
    top_down += struct.pack("<IiiHHIIiiII", 40, 64, -48, 1, 24, 0, 0, 0, 0, 0, 0)
    top_down += original.tobytes()
    np.testing.assert_array_equal(decode_image(top_down, name="a.bmp"), original)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_ignored(pictures: ModuleType, orientation: int) -> None:
    plain = pictures.encoded(".jpg")
    turned = pictures.jpeg_with_orientation(plain, orientation)
    expected = decode_image(plain, name="plain.jpg")
    np.testing.assert_array_equal(decode_image(turned, name="turned.jpg"), expected)
    followed = cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR)
    if orientation > 1:  # the flag is there: OpenCV's default would follow it
        assert followed.shape != expected.shape or (followed != expected).any()


def test_grey_and_palette_and_alpha_become_bgr(pictures: ModuleType) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (5, 7), np.uint8)
    from_grey = decode_image(pictures.png_of(grey, pictures.GREY), name="grey.png")
    np.testing.assert_array_equal(from_grey, np.repeat(grey[:, :, None], 3, axis=2))

    rgba = rng.integers(0, 256, (5, 7, 4), np.uint8)
    from_rgba = decode_image(pictures.png_of(rgba, pictures.RGBA), name="rgba.png")
    np.testing.assert_array_equal(from_rgba, rgba[:, :, 2::-1])  # alpha dropped, not blended

    indices = rng.integers(0, 4, (5, 7), np.uint8)
    colours_rgb = rng.integers(0, 256, (4, 3), np.uint8)
    palette = pictures.png_of(indices, pictures.PALETTE, palette=colours_rgb.tobytes())
    from_palette = decode_image(palette, name="palette.png")
    np.testing.assert_array_equal(from_palette, colours_rgb[indices][:, :, ::-1])


def test_sixteen_bits_keep_the_upper_eight(pictures: ModuleType) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 65536, (5, 7), np.uint16)
    from_grey = decode_image(pictures.png_of(grey, pictures.GREY), name="deep.png")
    np.testing.assert_array_equal(from_grey[:, :, 0], grey >> 8)
    rgb = rng.integers(0, 65536, (5, 7, 3), np.uint16)
    from_rgb = decode_image(pictures.png_of(rgb, pictures.RGB), name="deep.png")
    np.testing.assert_array_equal(from_rgb, (rgb >> 8)[:, :, ::-1])


@pytest.mark.parametrize(
    ("levels", "bgr"),
    [
        ((200, 100, 50, 255), (50, 100, 200)),  # inverted ink, no black
        ((200, 100, 50, 128), (25, 50, 100)),  # half black
        ((255, 255, 255, 255), (255, 255, 255)),
        ((128, 128, 128, 0), (0, 0, 0)),
        ((180, 128, 128), (180, 180, 180)),  # the same file with three components
    ],
)
def test_cmyk_jpeg(
    pictures: ModuleType, levels: tuple[int, ...], bgr: tuple[int, int, int]
) -> None:
    image_bgr = decode_image(pictures.flat_jpeg(levels), name="cmyk.jpg").astype(int)
    assert image_bgr.shape == (8, 8, 3)
    assert np.abs(image_bgr - bgr).max() <= 2


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9, -1])
def test_a_truncated_picture_is_refused(
    pictures: ModuleType, tmp_path: Path, extension: str, keep: float
) -> None:
    content = pictures.encoded(extension)
    file = tmp_path / f"cut{extension}"
    file.write_bytes(content[: int(len(content) * keep) if keep > 0 else -1])
    with pytest.raises(InputError, match=r"cut\.\w+: is truncated \(it ends after \d+ bytes\)\."):
        read_image(file)


def test_every_length_of_every_type_is_refused_or_read(pictures: ModuleType) -> None:
    small = pictures.picture(9, 11)
    for extension in EXTENSIONS:
        content = pictures.encoded(extension, small)
        for length in range(len(content)):
            with pytest.raises(InputError):
                decode_image(content[:length], name="cut")


def test_a_complete_thumbnail_does_not_hide_a_truncated_jpeg(pictures: ModuleType) -> None:
    thumbnail = pictures.encoded(".jpg", pictures.picture(8, 8))
    whole = pictures.jpeg_with_thumbnail(pictures.encoded(".jpg"), thumbnail)
    assert decode_image(whole, name="whole.jpg").shape == (48, 64, 3)
    with pytest.raises(InputError, match="is truncated"):
        decode_image(whole[:-2], name="cut.jpg")


def test_bytes_behind_the_end_are_no_fault(pictures: ModuleType) -> None:
    for extension in EXTENSIONS:
        content = pictures.encoded(extension)
        assert decode_image(content + b"\0" * 100, name="tail").shape == (48, 64, 3)


def test_a_png_with_a_changed_byte_is_damaged(pictures: ModuleType) -> None:
    content = bytearray(pictures.encoded(".png"))
    content[len(content) // 2] ^= 1
    with pytest.raises(InputError, match=r"a\.png: is damaged \(checksum of its IDAT chunk\)"):
        decode_image(bytes(content), name="a.png")


def test_a_png_whose_pixels_do_not_inflate_is_damaged(pictures: ModuleType) -> None:
    content = pictures.png(64, 48, pictures.RGB, b"\0" * 100)
    with pytest.raises(InputError, match=r"a\.png: is damaged \(its PNG data cannot be decoded\)"):
        decode_image(content, name="a.png")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"v/1\x01", "OpenEXR"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS", "Photoshop"),
        (b"P6\n2 2\n255\n", "netpbm"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_other_types_are_named(tmp_path: Path, head: bytes, name: str) -> None:
    file = tmp_path / "other.jpg"
    file.write_bytes(head + bytes(100))
    expected = rf"other\.jpg: is of an unsupported image type \({name}\)\. Convert it to JPEG, PNG"
    with pytest.raises(InputError, match=expected):
        read_image(file)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\n<!DOCTYPE html><html>", "is an HTML or XML page, not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is an HTML or XML page, not an image"),
        (b"PK\x03\x04" + bytes(50), "is not an image .looks like a zip archive"),
        (b'{"boxes": []}', "is not an image .looks like JSON"),
        (b"\xff", "is not an image"),
        (bytes(100), "is not an image"),
        (b"\xff\xd8\xff\xd9" + bytes(9), r"is damaged \(it has no frame header\)"),
        (b"\xff\xd8\xff\xe0\0\0" + bytes(9), r"is damaged \(a segment has no length\)"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIDAT" + bytes(20), r"is damaged \(it does not start with"),
        (b"RIFF\0\1\0\0WEBPXXXX" + bytes(20), r"is damaged \(it does not start with a VP8"),
    ],
)
def test_what_is_no_picture_is_said(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "file.jpg"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"file\.jpg: {problem}"):
        read_image(file)


def test_paths_that_are_no_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg: no such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="is a directory"):
        read_image(tmp_path)
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"pipe\.jpg: is not a regular file"):
        read_image(pipe)
    with pytest.raises(InputError, match=r"cannot be read .file name too long"):
        read_image(tmp_path / ("x" * 300))


def test_a_file_without_permission_is_named(
    pictures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "locked.jpg"
    file.write_bytes(pictures.encoded(".jpg"))
    if os.geteuid() == 0:  # root may read everything: ask the way an ordinary user would be told
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    else:
        file.chmod(0)
    with pytest.raises(InputError, match=r"locked\.jpg: cannot be read \(permission denied\)"):
        read_image(file)


def test_a_file_that_vanishes_while_it_is_opened_is_named(
    pictures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "there.jpg"
    file.write_bytes(pictures.encoded(".jpg"))
    monkeypatch.setattr(image_module, "check_input_file", lambda path, what: file.unlink())
    with pytest.raises(InputError, match=r"there\.jpg: cannot be read \(No such file"):
        read_image(file)


@pytest.mark.parametrize(
    "name",
    ["with space.jpg", "two\nlines.jpg", "fünf-\N{CROISSANT}.jpg", "-rf.jpg", "%s%n.jpg"],
)
def test_odd_names_are_read_and_quoted_on_one_line(
    pictures: ModuleType, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(pictures.encoded(".jpg"))
    assert read_image(file).shape == (48, 64, 3)
    file.write_bytes(b"nothing")
    with pytest.raises(InputError) as caught:
        read_image(file)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_utf8_is_read(pictures: ModuleType, tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    with open(raw, "wb") as stream:
        stream.write(pictures.encoded(".jpg"))
    assert read_image(Path(os.fsdecode(raw))).shape == (48, 64, 3)
    with open(raw, "wb") as stream:
        stream.write(b"nothing")
    with pytest.raises(InputError) as caught:
        read_image(os.fsdecode(raw))
    str(caught.value).encode("utf-8")


def test_the_pixel_limit_is_the_callers(pictures: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(pictures.encoded(".png"))
    assert read_image(file, max_pixels=64 * 48).shape == (48, 64, 3)
    with pytest.raises(
        InputError, match=r"64x48 px: 0\.0031 Mpx exceeds 0\.003 Mpx limit.*--max-pixels"
    ):
        read_image(file, max_pixels=3e3)


@pytest.mark.skipif(not cv2.__version__.startswith("4."), reason="a limit of OpenCV 4")
def test_a_side_that_opencv_4_cannot_crop_from_is_refused(pictures: ModuleType) -> None:
    wide = np.zeros((1, 32766, 3), np.uint8)
    assert decode_image(pictures.encoded(".png", wide), name="a.png").shape == (1, 32766, 3)
    wider = np.zeros((1, 32767, 3), np.uint8)
    with pytest.raises(InputError, match="a side exceeds 32766 px with OpenCV 4"):
        decode_image(pictures.encoded(".png", wider), name="a.png")


def test_memory_that_is_not_there_is_an_environment_fault(
    pictures: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cv2, "imdecode", no_memory)
    with pytest.raises(EnvironmentFault, match=r"a\.jpg: not enough memory"):
        decode_image(pictures.encoded(".jpg"), name="a.jpg")


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path) -> None:
    file = tmp_path / "huge.jpg"
    with open(file, "wb") as stream:
        stream.write(b"\xff\xd8\xff")
        stream.truncate(1 << 40)  # sparse
    with pytest.raises(InputError, match=r"huge\.jpg: is 1099\.5 GB\. At most 1\.1 GB are read"):
        read_image(file)
