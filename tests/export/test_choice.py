"""What the weights cannot tell: flag, recipe, stored config, file name, assumption, in order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from hrnet_deploy.errors import InputError  # noqa: E402
from hrnet_deploy.export.architecture import published_architecture  # noqa: E402
from hrnet_deploy.export.checkpoint import Checkpoint, resolve_model  # noqa: E402
from hrnet_deploy.export.choice import check_input_size, parse_input_size  # noqa: E402
from hrnet_deploy.export.recipes import (  # noqa: E402
    Recipe,
    choose_recipe,
    find_recipe,
    load_recipe,
)
from hrnet_deploy.export.stored_config import StoredConfig  # noqa: E402
from hrnet_deploy.keypoints import keypoint_set  # noqa: E402

Make = Callable[..., Checkpoint]


def make(
    name: str = "model.pth",
    joints: int = 17,
    width: int = 32,
    sha256: str = "0" * 64,
    **stored: Any,
) -> Checkpoint:
    """A recognised checkpoint without its tensors."""
    return Checkpoint(
        path=Path(name),
        sha256=sha256,
        state_dict={},
        architecture=published_architecture(width, joints),
        flavour="official",
        stored=StoredConfig(**stored) if stored else None,
        notes=(),
    )


def recipe_file(folder: Path, text: str = "", name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(
        text
        or '[source]\nfile = "model.pth"\n[network]\ninput_size_hw = [384, 288]\n'
        '[keypoints]\nset = "ap10k_17"\n[inference]\nshift_heatmap = false\ndecode = "dark"\n'
    )
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(recipe_file(tmp_path))


def test_nothing_known_is_assumed_and_said() -> None:
    choice = resolve_model(make())
    assert choice.input_size_hw == (256, 192)
    assert choice.keypoints == keypoint_set("coco_17")
    assert choice.shift_heatmap is True
    assert choice.recipe is None
    text = " | ".join(choice.assumptions)
    assert "input size 256x192 (height x width) is assumed, since the weights cannot tell" in text
    assert "keypoints coco_17 (not ap10k_17) are assumed from their count 17" in text
    assert "shifts by one pixel" in text


@pytest.mark.parametrize(
    ("joints", "name", "size_hw"),
    [
        (16, "mpii_16", (256, 256)),
        (14, "crowdpose_14", (256, 192)),
        (133, "coco_wholebody_133", (256, 192)),
        (21, "hand_21", (256, 256)),
    ],
)
def test_sets_by_count(joints: int, name: str, size_hw: tuple[int, int]) -> None:
    choice = resolve_model(make(joints=joints))
    assert choice.keypoints.name == name
    assert choice.input_size_hw == size_hw
    assert any(name in line and "assumed" in line for line in choice.assumptions)


def test_an_unknown_count_has_names_but_no_flip_pairs() -> None:
    choice = resolve_model(make(joints=5))
    assert choice.keypoints.names == ("kp_0", "kp_1", "kp_2", "kp_3", "kp_4")
    assert choice.keypoints.flip_pairs is None
    assert any("flip-test needs a recipe" in line for line in choice.assumptions)


@pytest.mark.parametrize(
    ("name", "joints", "size_hw", "keypoints"),
    [
        ("pose_hrnet_w32_384x288.pth", 17, (384, 288), "coco_17"),
        ("td-hm_hrnet-w32_8xb64-210e_ap10k-256x256-81c58e40_20220909.pth", 17, (256, 256), "ap10k"),
        ("hrnet_w32_aic_256x192.pth", 14, (256, 192), "aic_14"),
        ("w32_300x200_mpii.pth", 16, (256, 256), "mpii_16"),
        ("w32_256x192_384x288.pth", 17, (256, 192), "coco_17"),
    ],
)
def test_the_name_of_the_file(
    name: str, joints: int, size_hw: tuple[int, int], keypoints: str
) -> None:
    choice = resolve_model(make(name, joints=joints))
    assert choice.input_size_hw == size_hw
    assert choice.keypoints.name.startswith(keypoints)


def test_a_size_from_the_name_is_said() -> None:
    choice = resolve_model(make("w32_384x288.pth"))
    assert any("is taken from the file's name" in line for line in choice.assumptions)
    assert choice.origins["input_size"] == "file name"


def test_the_stored_config_goes_before_the_name() -> None:
    choice = resolve_model(
        make(
            "w32_coco_384x288.pth",
            input_size_hw=(256, 256),
            dataset="ap10k",
            keypoints=keypoint_set("ap10k_17"),
            shift_heatmap=False,
            decode="dark",
            mean_rgb=(0.1, 0.2, 0.3),
            std_rgb=(1.0, 1.0, 1.0),
            network_color_order="bgr",
        )
    )
    assert choice.input_size_hw == (256, 256)
    assert choice.keypoints.name == "ap10k_17"
    assert (choice.shift_heatmap, choice.decode) == (False, "dark")
    assert (choice.mean_rgb, choice.network_color_order) == ((0.1, 0.2, 0.3), "bgr")
    assert choice.assumptions == ()


def test_a_stored_data_set_that_is_not_known_is_not_taken_for_coco() -> None:
    choice = resolve_model(make(dataset="PoseTrack18", input_size_hw=(256, 192)))
    assert choice.keypoints.flip_pairs is None
    assert any("data set 'PoseTrack18', which is not known" in x for x in choice.assumptions)


def test_the_recipe_goes_before_the_stored_config(recipe: Recipe) -> None:
    stored = make(input_size_hw=(256, 192), keypoints=keypoint_set("coco_17"), shift_heatmap=True)
    choice = resolve_model(stored, recipe=recipe)
    assert choice.input_size_hw == (384, 288)
    assert choice.keypoints.name == "ap10k_17"
    assert (choice.shift_heatmap, choice.decode) == (False, "dark")
    assert choice.recipe == "mine"
    assert choice.assumptions == ()


def test_flags_go_before_the_recipe(recipe: Recipe) -> None:
    choice = resolve_model(make(), input_size_hw=(256, 256), keypoints="coco_17", recipe=recipe)
    assert choice.input_size_hw == (256, 256)
    assert choice.keypoints.name == "coco_17"
    assert choice.shift_heatmap is False


def test_a_set_of_another_count_is_refused() -> None:
    expected = r"^--keypoints: mpii_16 has 16 keypoints, model\.pth has 14\. Sets of 14: crowd.*aic"
    with pytest.raises(InputError, match=expected):
        resolve_model(make(joints=14), keypoints="mpii_16")
    with pytest.raises(InputError, match=r"unknown keypoint set 'coco'"):
        resolve_model(make(), keypoints="coco")


@pytest.mark.parametrize(
    "size_hw", [(250, 192), (256, 190), (0, 0), (16, 16), (10_000, 10_000), (-32, 32)]
)
def test_input_sizes_that_do_not_fit(size_hw: tuple[int, int]) -> None:
    expected = rf"^--input-size: input size {size_hw[0]}x{size_hw[1]} .* multiples of 32 from 32 to"
    with pytest.raises(InputError, match=expected):
        resolve_model(make(), input_size_hw=size_hw)


def test_the_rule_follows_the_number_of_branches() -> None:
    published = published_architecture(32, 17)
    shallow = dataclasses.replace(published, stages=published.stages[:1])
    assert check_input_size((40, 24), shallow, source="x") == (40, 24)


@pytest.mark.parametrize("text", ["256", "256x", "axb", "256,192", "", "2e2x1", "256x192x3"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match=r"is not a size\. Give HEIGHTxWIDTH"):
        parse_input_size(text)


def test_sizes() -> None:
    assert parse_input_size("256x192") == (256, 192)
    assert parse_input_size(" 384 X 288 ") == (384, 288)
    assert parse_input_size("256\u00d7192") == (256, 192)


def test_a_recipe_of_another_model_is_refused(tmp_path: Path) -> None:
    text = '[network]\narchitecture = "hrnet_w48"\ninput_size_hw = [256, 192]\n'
    other = load_recipe(recipe_file(tmp_path, text + '[keypoints]\nset = "coco_17"\n'))
    expected = "is for hrnet_w48 with 17 keypoints, model.pth holds hrnet_w32 with 16"
    with pytest.raises(InputError, match=expected):
        resolve_model(make(joints=16), recipe=other)
    choice = resolve_model(make(joints=16), recipe=other, allow_unknown=True)
    assert choice.recipe is None
    assert "the recipe mine was left aside" in choice.assumptions[0]


PUBLISHED = """
[source]
file = "w32.pth"
{hash}
[network]
architecture = "hrnet_w32"
input_size_hw = [384, 288]
[keypoints]
set = "coco_17"
"""


@pytest.mark.parametrize("form", ["sha256", "sha256_prefix"])
def test_a_file_that_differs_from_the_published_one(tmp_path: Path, form: str) -> None:
    published = hashlib.sha256(b"published").hexdigest()
    digits = published if form == "sha256" else published[:8]
    recipe_file(tmp_path, PUBLISHED.format(hash=f'{form} = "{digits}"'))
    good, bad = make("w32.pth", sha256=published), make("w32.pth", sha256="f" * 64)
    assert resolve_model(good, recipe=find_recipe(good, tmp_path)).recipe == "mine"
    found = find_recipe(bad, tmp_path)
    expected = "^w32.pth: differs from the published file of that name. .*--allow-unknown"
    with pytest.raises(InputError, match=expected):
        resolve_model(bad, recipe=found)
    choice = resolve_model(bad, recipe=found, allow_unknown=True)
    assert choice.input_size_hw == (384, 288)
    assert "is not the published one" in choice.assumptions[0]


def test_a_renamed_published_file_is_found_by_its_hash(tmp_path: Path) -> None:
    published = hashlib.sha256(b"published").hexdigest()
    recipe_file(tmp_path, PUBLISHED.format(hash=f'sha256 = "{published}"'))
    found = find_recipe(make("renamed.pth", sha256=published), tmp_path)
    assert found is not None
    choice = resolve_model(make("renamed.pth", sha256=published), recipe=found)
    assert (choice.recipe, choice.assumptions) == ("mine", ())


def test_a_recipe_without_a_hash_needs_the_architecture(tmp_path: Path) -> None:
    recipe_file(tmp_path, PUBLISHED.format(hash=""))
    assert find_recipe(make("w32.pth"), tmp_path) is not None
    assert find_recipe(make("w32.pth", width=48), tmp_path) is None
    assert find_recipe(make("w32.pth", joints=16), tmp_path) is None
    assert find_recipe(make("other.pth"), tmp_path) is None


def test_what_the_flag_takes(tmp_path: Path) -> None:
    path = recipe_file(tmp_path)
    for argument in (str(path), str(tmp_path)):
        found = choose_recipe(make(), argument)
        assert found is not None
        assert found.name == "mine"
    with pytest.raises(InputError, match=r"holds no recipe for other\.pth"):
        choose_recipe(make("other.pth"), str(tmp_path))
    with pytest.raises(InputError, match="there is no recipe 'ofical_coco_w32_256x192'"):
        choose_recipe(make(), "ofical_coco_w32_256x192")


def test_udp_is_refused_by_name(recipe: Recipe) -> None:
    expected = "was trained with UDP .*whose geometry is not supported"
    with pytest.raises(InputError, match=expected):
        resolve_model(make(udp=True), recipe=recipe, allow_unknown=True)
    named = "hrnet_w32_coco_256x192_udp-aba0be42_20210220.pth"
    with pytest.raises(InputError, match=expected):
        resolve_model(make(named))
    assert resolve_model(make(named), allow_unknown=True).input_size_hw == (256, 192)
    assert resolve_model(make("audpx.pth"))
