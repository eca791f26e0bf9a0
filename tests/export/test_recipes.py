"""Recipes: the committed ones, and strict reading of anybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.export.recipes import (
    find_onnx_recipe,
    load_recipe,
    recipes_folder,
)
from hrnet_deploy.keypoints import keypoint_set

FOLDER = Path(__file__).resolve().parents[2] / "export"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))

# The paper's tables and the official README; ground-truth boxes as stated by the authors.
OFFICIAL = {
    "official_coco_w32_256x192": (74.4, 76.5),
    "official_coco_w32_384x288": (75.8, 77.7),
    "official_coco_w48_256x192": (75.1, None),
    "official_coco_w48_384x288": (76.3, 78.1),
}


def test_the_committed_recipes_are_found() -> None:
    folder = recipes_folder()
    assert folder is not None
    found = {path.name: path.read_bytes() for path in folder.glob("*.toml")}
    assert found == {path.name: path.read_bytes() for path in FOLDER.glob("*.toml")}
    assert set(OFFICIAL) | {"official_mpii_w32_256x256", "ultralight_256x192"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_committed_recipe_is_sound(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.project is not None
    assert recipe.heatmap_size_hw == (recipe.input_size_hw[0] // 4, recipe.input_size_hw[1] // 4)
    if recipe.kind == "checkpoint":
        assert all(side % 32 == 0 for side in recipe.input_size_hw)
        height, width = recipe.input_size_hw
        assert recipe.source_file is not None
        assert f"{height}x{width}" in recipe.source_file
        assert recipe.architecture is not None
        assert recipe.architecture.removeprefix("hrnet_") in recipe.source_file
        assert f"{height}x{width}" in name or name.startswith("example_")
    if name.startswith("mmpose_"):
        # The name of such a file carries the first digits of its hash.
        assert f"-{recipe.sha256_prefix}_20" in str(recipe.source_file)
    if name.startswith("official_"):
        assert recipe.sha256 is None, "no hash of the official files was ever published"
        assert recipe.sha256_prefix is None


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_figures(name: str) -> None:
    detector, truth = OFFICIAL[name]
    published = load_recipe(name).published
    assert published["ap_detector_boxes"] == detector
    assert published.get("ap_ground_truth_boxes") == truth


def test_mpii_figure() -> None:
    recipe = load_recipe("official_mpii_w32_256x256")
    assert recipe.published["pckh_50"] == 90.3
    assert recipe.keypoints == keypoint_set("mpii_16")


def test_two_recipes_never_claim_one_file() -> None:
    files = [load_recipe(name).source_file for name in NAMES]
    assert len(set(files)) == len(files)


def test_ultralight_is_found_by_its_hash() -> None:
    recipe = load_recipe("ultralight_256x192")
    assert (recipe.kind, recipe.input_name) == ("onnx", "data")
    assert recipe.sha256 is not None
    assert find_onnx_recipe(recipe.sha256) == recipe
    assert find_onnx_recipe("0" * 64) is None


def test_the_example_shows_every_key() -> None:
    recipe = load_recipe(FOLDER / "example_custom.toml")
    assert recipe.keypoints.flip_pairs == ((1, 2),)
    assert recipe.keypoints.skeleton == ((0, 3), (3, 4), (1, 3), (2, 3))
    assert recipe.keypoints.sigmas == (0.05, 0.07, 0.07, 0.07, 0.05)


MINIMAL = '[network]\ninput_size_hw = [256, 192]\n[keypoints]\nset = "coco_17"\n'


def read(folder: Path, text: str) -> object:
    path = folder / "mine.toml"
    path.write_text(text)
    return load_recipe(path)


def test_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("\ufeff" + MINIMAL, encoding="utf-8")
    recipe = load_recipe(tmp_path / "mine.toml")
    assert recipe.heatmap_size_hw == (64, 48)
    assert recipe.mean_rgb == (0.485, 0.456, 0.406)
    assert (recipe.shift_heatmap, recipe.decode, recipe.box_padding) == (True, "quarter", 1.25)
    assert (recipe.kind, recipe.architecture, recipe.sha256) == ("checkpoint", None, None)
    assert recipe.published == {}


def test_inline_keypoints_without_pairs_or_sigmas(tmp_path: Path) -> None:
    text = '[network]\ninput_size_hw = [64, 64]\n[keypoints]\nnames = ["a", "b"]\n'
    (tmp_path / "mine.toml").write_text(text)
    keypoints = load_recipe(tmp_path / "mine.toml").keypoints
    assert (keypoints.name, keypoints.flip_pairs, keypoints.sigmas) == ("mine", None, None)
    (tmp_path / "mine.toml").write_text(text + "flip_pairs = [[0, 1]]\nskeleton = [['a', 1]]\n")
    keypoints = load_recipe(tmp_path / "mine.toml").keypoints
    assert (keypoints.flip_pairs, keypoints.skeleton) == (((0, 1),), ((0, 1),))
    (tmp_path / "mine.toml").write_text(text + "flip_pairs = []\n")
    assert load_recipe(tmp_path / "mine.toml").keypoints.flip_pairs == ()


NETWORK = "[network]\ninput_size_hw = [256, 192]\n"
NAMED = NETWORK + '[keypoints]\nnames = ["a", "b", "c"]\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = ", "is not valid TOML: Invalid value (at "),
        ("# nothing", "network is missing; a recipe needs this table"),
        ("[network]\n[keypoints]", "network.input_size_hw is missing"),
        (NETWORK, "keypoints is missing"),
        (NETWORK + "[keypoints]\n", "keypoints.names is missing"),
        ("network = 3", "network is 3, expected a table"),
        (
            MINIMAL + "[inferense]\n",
            "unknown key inferense. Did you mean 'inference'? Known keys: ",
        ),
        (MINIMAL + "[network.x]", "unknown key network.x."),
        (
            MINIMAL.replace("input_size_hw", "heatmap_size = [1, 2]\ninput_size_hw"),
            "unknown key network.heatmap_size. Did you mean 'heatmap_size_hw'?",
        ),
        (NETWORK.replace("192]", "192, 3]") + "[keypoints]", "input_size_hw is [256, 192, 3], exp"),
        (NETWORK.replace("192", "0") + "[keypoints]", "input_size_hw is [256, 0], expected"),
        (NETWORK.replace("192", "true") + "[keypoints]", "input_size_hw is [256, True], expected"),
        (MINIMAL + "[inference]\nshift_heatmap = 1", "inference.shift_heatmap is 1, expected true"),
        (
            MINIMAL + "[inference]\ndecode = 'drak'",
            "is 'drak', expected one of quarter, dark, none",
        ),
        (MINIMAL + "[inference]\ngeometry = 'udp'", "geometry is 'udp' (unbiased data processing)"),
        (MINIMAL + "[inference]\nbox_padding = nan", "box_padding is nan, expected a number from"),
        (MINIMAL + "[source]\nsha256 = 'abc'", "sha256 is 'abc', expected 64 hexadecimal digits"),
        (MINIMAL + "[source]\nsha256_prefix = 'zzzzzzzz'", "expected 8 to 63 hexadecimal digits"),
        (MINIMAL + "[source]\nfile = 3", "source.file is 3, expected text"),
        (MINIMAL + "[published]\npckh = 3", "unknown key published.pckh. Did you mean 'pckh_50'?"),
        (
            MINIMAL + "[published]\npckh_50 = 190",
            "published.pckh_50 is 190, expected a number from",
        ),
        (
            MINIMAL.replace("[keypoints]", "mean_rgb = [123.7, 116.3, 103.5]\n[keypoints]"),
            "network.mean_rgb is [123.7, 116.3, 103.5], expected [red, green, blue], each at",
        ),
        (
            MINIMAL.replace("[keypoints]", "std_rgb = [1, 1, 0]\n[keypoints]"),
            "network.std_rgb is [1, 1, 0], expected",
        ),
        (
            MINIMAL.replace("[keypoints]", "color_order = 'gbr'\n[keypoints]"),
            "network.color_order is 'gbr', expected one of rgb, bgr",
        ),
        (MINIMAL.replace("coco_17", "coco17"), "unknown keypoint set 'coco17'. Did you mean 'coco"),
        (MINIMAL + "names = ['a']", "keypoints.names stands beside set"),
        (NETWORK + "[keypoints]\nnames = ['a', 'a']", "is not a list of different names"),
        (NAMED + "flip_pairs = [['a', 'd']]", "holds 'd', expected a keypoint's name or an index"),
        (NAMED + "flip_pairs = [[0, 3]]", "flip_pairs holds 3, expected a keypoint's name or"),
        (NAMED + "flip_pairs = [[0, -1]]", "flip_pairs holds -1, expected"),
        (NAMED + "flip_pairs = [[0, 'a']]", "flip_pairs pairs 0 with itself"),
        (NAMED + "flip_pairs = [[0, 1], [1, 2]]", "flip_pairs names a keypoint twice"),
        (NAMED + "flip_pairs = [[0, 1, 2]]", "flip_pairs holds [0, 1, 2], expected two keypoints"),
        (NAMED + "skeleton = 3", "skeleton is 3, expected a list of pairs"),
        (NAMED + "sigmas = [0.1, 0.2]", "sigmas is not a list of 3 positive numbers"),
        (NAMED + "sigmas = [0.1, 0.2, inf]", "sigmas is not a list of 3 positive numbers"),
    ],
)
def test_every_fault_is_one_line_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "mine.toml"))
    assert "\n" not in message
    assert expected in message


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_recipe(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="is a directory"):
        load_recipe(tmp_path)
    binary = tmp_path / "b.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8 text at byte 0"):
        load_recipe(binary)
    binary.write_text("a = " + "[" * 100_000)
    with pytest.raises(InputError, match="is not valid TOML"):
        load_recipe(binary)
    binary.write_bytes(b" " * (1 << 20) + b" ")
    with pytest.raises(InputError, match="has 1048577 bytes"):
        load_recipe(binary)


def test_a_name_that_is_no_recipe_brings_the_nearest() -> None:
    with pytest.raises(
        InputError,
        match=r"^--recipe: there is no recipe 'ultralight'\. Did you mean ultralight_256",
    ):
        load_recipe("ultralight")
