"""What mmpose checkpoints say about themselves, in both generations."""

from __future__ import annotations

from typing import Any

import pytest

from hrnet_deploy.export.pickles import Inert
from hrnet_deploy.export.stored_config import StoredConfig, parse_config, read_stored_config
from hrnet_deploy.keypoints import keypoint_set

CONFIG_0X = """
channel_cfg = dict(num_output_channels=17, dataset_joints=17)
model = dict(
    type='TopDown',
    test_cfg=dict(
        flip_test=True, post_process={post!r}, shift_heatmap={shift}, modulate_kernel=11{udp}))
data_cfg = dict(image_size=[192, 256], heatmap_size=[48, 64], num_joints=17)
val_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
]
data = dict(test=dict(type='{dataset}', data_cfg=data_cfg))
"""
CONFIG_1X = """
codec = dict(
    heatmap_size=(
        72,
        96,
    ), input_size=(
        288,
        384,
    ), sigma=3, type='{codec}'{unbiased})
model = dict(
    data_preprocessor=dict(
        bgr_to_rgb={swap}, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        type='PoseDataPreprocessor'),
    test_cfg=dict(flip_mode='heatmap', flip_test=True, shift_heatmap=False))
dataset_type = '{dataset}'
"""


def config_0x(
    dataset: str = "TopDownCocoDataset", post: str = "default", shift: bool = True, udp: str = ""
) -> StoredConfig:
    text = CONFIG_0X.format(dataset=dataset, post=post, shift=shift, udp=udp)
    stored = read_stored_config({"config": text, "mmpose_version": "0.18.0"})
    assert stored is not None
    return stored


def config_1x(
    dataset: str = "CocoDataset",
    codec: str = "MSRAHeatmap",
    unbiased: str = "",
    swap: bool = True,
    **meta: Any,
) -> StoredConfig:
    text = CONFIG_1X.format(dataset=dataset, codec=codec, unbiased=unbiased, swap=swap)
    stored = read_stored_config({"cfg": text, **meta})
    assert stored is not None
    return stored


def test_generation_0() -> None:
    stored = config_0x()
    assert stored.input_size_hw == (256, 192)
    assert stored.shift_heatmap is True
    assert stored.decode == "quarter"
    assert stored.mean_rgb == (0.485, 0.456, 0.406)
    assert stored.std_rgb == (0.229, 0.224, 0.225)
    assert stored.network_color_order == "rgb"
    assert stored.keypoints == keypoint_set("coco_17")
    assert not stored.udp


def test_generation_1() -> None:
    stored = config_1x()
    assert stored.input_size_hw == (384, 288)
    assert stored.shift_heatmap is False
    assert stored.mean_rgb == (0.485, 0.456, 0.406)
    assert stored.std_rgb == (0.229, 0.224, 0.225)
    assert stored.keypoints == keypoint_set("coco_17")


def test_a_network_without_the_swap_wants_blue_first() -> None:
    stored = config_1x(swap=False)
    assert stored.network_color_order == "bgr"
    assert stored.mean_rgb == (0.406, 0.456, 0.485)
    assert stored.std_rgb == (0.225, 0.224, 0.229)


def test_dark() -> None:
    assert config_0x(post="unbiased").decode == "dark"
    assert config_1x(unbiased=", unbiased=True").decode == "dark"
    assert config_1x(unbiased=", unbiased=False").decode == "quarter"


def test_udp() -> None:
    assert config_0x(udp=", use_udp=True").udp
    assert config_1x(codec="UDPHeatmap").udp


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("TopDownMpiiDataset", "mpii_16"),
        ("TopDownCrowdPoseDataset", "crowdpose_14"),
        ("TopDownAicDataset", "aic_14"),
        ("TopDownCocoWholeBodyDataset", "coco_wholebody_133"),
        ("AnimalAP10KDataset", "ap10k_17"),
        ("OneHand10KDataset", "hand_21"),
        ("TopDownOCHumanDataset", "coco_17"),
    ],
)
def test_data_sets_by_class(dataset: str, name: str) -> None:
    assert config_0x(dataset).keypoints == keypoint_set(name)
    assert config_1x(dataset.removeprefix("TopDown")).keypoints == keypoint_set(name)


def test_another_data_set_is_named_but_not_guessed() -> None:
    stored = config_1x("PoseTrack18Dataset")
    assert stored.dataset == "PoseTrack18"
    assert stored.keypoints is None


WORM = {
    "dataset_name": "worm",
    "keypoint_id2name": {0: "head", 1: "left", 2: "right"},
    "flip_indices": [0, 2, 1],
    "skeleton_links": [(0, 1), (0, 2)],
    "sigmas": [0.05, 0.06, 0.06],
}


def test_described_keypoints_of_generation_1() -> None:
    keypoints = config_1x(dataset_meta=WORM).keypoints
    assert keypoints is not None
    assert (keypoints.name, keypoints.names) == ("worm", ("head", "left", "right"))
    assert keypoints.flip_pairs == ((1, 2),)
    assert keypoints.skeleton == ((0, 1), (0, 2))
    assert keypoints.sigmas == (0.05, 0.06, 0.06)


def test_sigmas_that_numpy_pickled_are_read() -> None:
    import numpy as np

    array = Inert("ndarray", (0,), b"b")
    content = np.array(WORM["sigmas"], np.float32).tobytes()
    array.__setstate__((1, (3,), Inert("f4", False, True), False, content))
    keypoints = config_1x(dataset_meta={**WORM, "sigmas": array}).keypoints
    assert keypoints is not None
    assert keypoints.sigmas == pytest.approx((0.05, 0.06, 0.06), abs=1e-7)


def test_described_keypoints_of_generation_0() -> None:
    points = {
        0: {"name": "head", "id": 0, "swap": ""},
        1: {"name": "left", "id": 1, "swap": "right"},
        2: {"name": "right", "id": 2, "swap": "left"},
    }
    info = f"""dict(dataset_name='worm', keypoint_info={points!r},
        skeleton_info={{0: dict(link=('head', 'left'), id=0)}}, sigmas=[])"""
    stored = read_stored_config({"config": f"data = dict(test=dict(dataset_info={info}))"})
    assert stored is not None
    assert stored.keypoints is not None
    assert stored.keypoints.flip_pairs == ((1, 2),)
    assert stored.keypoints.skeleton == ((0, 1),)
    assert stored.keypoints.sigmas is None


def test_a_data_set_that_only_borrows_the_name_is_not_coco() -> None:
    described = {**WORM, "dataset_name": "coco"}
    keypoints = config_1x(dataset_meta=described).keypoints
    assert keypoints is not None
    assert keypoints.names == ("head", "left", "right")


@pytest.mark.parametrize("name", ["crowdpose_14", "ap10k_17", "coco_wholebody_133"])
def test_a_known_set_is_recognised_in_its_description(name: str) -> None:
    known = keypoint_set(name)
    meta = {
        "dataset_name": name.rsplit("_", 1)[0],
        "keypoint_id2name": {
            k: text.replace("left_", "L_").replace("face_", "face-").replace("head", "top_head")
            for k, text in enumerate(known.names)
        },
        "flip_indices": list(known.flip_order or ()),
    }
    assert config_1x(dataset_meta=meta).keypoints is known


@pytest.mark.parametrize(
    "change",
    [
        {"flip_indices": [0, 2, 9]},
        {"flip_indices": None},
        {"keypoint_id2name": {0: "a", 5: "b"}},
        {"keypoint_id2name": {0: 1, 1: 2, 2: 3}},
        {"skeleton_links": [(0, 77)]},
    ],
)
def test_an_inconsistent_description_is_left_out(change: dict[str, Any]) -> None:
    stored = config_1x(dataset_meta={**WORM, **change})
    assert (stored.dataset, stored.keypoints) == ("worm", None)


@pytest.mark.parametrize("meta", [None, 3, {}, {"epoch": 1}, {"cfg": ""}, {"cfg": "x = ("}])
def test_no_config(meta: object) -> None:
    assert read_stored_config(meta) is None


def test_only_literals_are_read() -> None:
    text = "a = open('x')\nb = dict(c=f'{1}', d=-2, **other)\nimport os\ne = [x for x in y]\nf = 1"
    assert parse_config(text) == {"a": None, "b": {"c": None, "d": -2}, "e": None, "f": 1}
