"""What the host costs around a network that costs nothing: CPU milliseconds a person, in turns.

    python benchmarks/host_peers.py --images val2017 --annotations person_keypoints_val2017.json

Three tables: from files to keypoints; from decoded pictures to what a network takes; and decoding
alone, with simplejpeg where it is installed. Without ``--images`` pictures are generated. Writes
benchmarks/results/host_peers.json.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pipelines
from stand_in import coco_spec, cpu_seconds

from hrnet_deploy.benchmark.end_to_end import Pictures, jobs_for
from hrnet_deploy.benchmark.machine import machine_facts
from hrnet_deploy.benchmark.statistics import paired_ratio, summarise
from hrnet_deploy.demo.people import write_dataset
from hrnet_deploy.errors import DeployError
from hrnet_deploy.files import check_output_file, write_json
from hrnet_deploy.runtime.crops import crop_into
from hrnet_deploy.runtime.geometry import CropGeometry
from hrnet_deploy.runtime.image import read_image
from hrnet_deploy.runtime.stream import ImageJob

RESULT = Path(__file__).resolve().parent / "results" / "host_peers.json"
Ways = dict[str, Callable[[], object]]


def main() -> None:
    """Measure, write the result and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--limit", type=int, default=60, help="pictures with persons")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if bool(arguments.images) != bool(arguments.annotations):
        parser.error("--images and --annotations belong together")
    cv2.setNumThreads(1)
    try:
        check_output_file(arguments.output, force=True)
        with tempfile.TemporaryDirectory() as folder:
            result = measured(arguments, Path(folder))
        write_json(arguments.output, result)
    except DeployError as error:
        sys.exit(f"host_peers: error: {error}")
    show(result)


def measured(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The content of the result file."""
    if arguments.images:
        pictures = Pictures(arguments.images, arguments.annotations, None, arguments.limit)
    else:
        known = write_dataset(folder, images=2 * arguments.limit, seed=0)
        pictures = Pictures(known.parent / "images", known, None, arguments.limit)
    jobs = jobs_for(pictures, coco_spec())
    persons = sum(len(job.geometry) for job in jobs)
    decoding, same = decoders(jobs)
    return {
        "command": "host_peers.py " + " ".join(Path(word).name for word in sys.argv[1:]),
        "machine": machine_facts(1),
        "pictures": len(jobs),
        "persons": persons,
        "generated": not arguments.images,
        "same_pixels_as_opencv": same,
        "cpu_ms_a_person": {
            "from files to keypoints": table(whole(jobs), arguments.rounds, persons),
            "from decoded pictures to the network": table(crops(jobs), arguments.rounds, persons),
            "decoding": table(decoding, arguments.rounds, persons),
        },
    }


def whole(jobs: Sequence[ImageJob]) -> Ways:
    """Everything but the network."""
    spec = coco_spec()
    stub, engine = pipelines.stub_network(spec), pipelines.StubEngine(spec)
    return {
        "official pipeline": lambda: pipelines.official(stub, jobs, spec),
        "one person per call": lambda: pipelines.one_person_per_call(stub, jobs, spec),
        "batches, numpy": lambda: pipelines.batched_numpy(stub, jobs, spec, 8),
        "hrnet-deploy": lambda: pipelines.ours(engine, jobs, 8),
    }


def crops(jobs: Sequence[ImageJob]) -> Ways:
    """From boxes and decoded pictures to the input of a network; ours normalises in its graph."""
    spec = coco_spec()
    images = [read_image(job.path) for job in jobs]
    boxes = [boxes_of(job.geometry) for job in jobs]
    places = [np.empty((len(job.geometry), *spec.input_size_hw, 3), np.uint8) for job in jobs]
    mean, std = (np.array(v) * 255 for v in (spec.mean_rgb, spec.std_rgb))

    def one_by_one() -> None:
        """Rtmlib's steps: float64 normalisation, one person at a time."""
        for image, own in zip(images, boxes, strict=True):
            for box in own:
                affine = CropGeometry.from_boxes_xywh(box, spec.input_size_wh).image_to_input[0]
                crop = cv2.warpAffine(image, affine, spec.input_size_wh, flags=cv2.INTER_LINEAR)
                normal = (crop - mean) / std
                np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)

    def ours() -> None:
        for image, own, place in zip(images, boxes, places, strict=True):
            crop_into(image, CropGeometry.from_boxes_xywh(own, spec.input_size_wh), place)

    return {"one person per call": one_by_one, "hrnet-deploy": ours}


def boxes_of(geometry: CropGeometry) -> Any:
    """Boxes (N, 4) left, top, width, height that give these crops but for rounding."""
    sizes = geometry.scale * 200 / 1.25
    return np.concatenate([geometry.center - sizes / 2, sizes], axis=1)


def decoders(jobs: Sequence[ImageJob]) -> tuple[Ways, dict[str, float]]:
    """Ways to decode every picture once, and the share of pictures that are equal to OpenCV's.

    "an eighth of the size" leaves out most of what follows the entropy decoding: the rest is what
    a decoder for parts of pictures could save at best.
    """
    files = [str(job.path) for job in jobs]
    contents = [np.fromfile(file, np.uint8) for file in files]
    eighth = cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION
    ways: Ways = {
        "cv2.imread": lambda: [cv2.imread(file, pipelines.READ_FLAGS) is None for file in files],
        "read_image, checked": lambda: [read_image(file) is None for file in files],
        "cv2, an eighth of the size": lambda: [cv2.imdecode(c, eighth) is None for c in contents],
    }
    try:
        simplejpeg = importlib.import_module("simplejpeg")
    except ImportError:
        return ways, {}
    equal = {}
    for name, fast in (("simplejpeg, exact", False), ("simplejpeg, fast", True)):

        def decode(content: Any, fast: bool = fast) -> Any:
            return simplejpeg.decode_jpeg(content, "BGR", fastdct=fast, fastupsample=fast)

        ways[name] = lambda decode=decode: [decode(content) is None for content in contents]
        equal[name] = float(
            np.mean(
                [
                    np.array_equal(decode(content), cv2.imdecode(content, pipelines.READ_FLAGS))
                    for content in contents
                ]
            )
        )
    return ways, equal


def table(ways: Ways, rounds: int, persons: int) -> dict[str, Any]:
    """CPU milliseconds a person by way, and how many times less than the first way it is."""
    taken = cpu_seconds(ways, rounds)
    first = next(iter(taken.values()))
    rows = {}
    for name, seconds in taken.items():
        summary = summarise([1e3 * value / persons for value in seconds])
        ratio = paired_ratio(first, seconds)
        rows[name] = {
            "median": round(summary.median, 4),
            "p5": round(summary.p5, 4),
            "p95": round(summary.p95, 4),
            "times_less_than_the_first": [
                round(value, 3) for value in (ratio.value, ratio.low, ratio.high)
            ],
        }
    return rows


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{result['persons']} persons in {result['pictures']} pictures")
    for title, rows in result["cpu_ms_a_person"].items():
        print(f"\n{title:<40}{'CPU ms/person':>14}{'p5':>8}{'p95':>8}  times")
        for name, row in rows.items():
            value, low, high = row["times_less_than_the_first"]
            cells = f"{row['median']:>14.3f}{row['p5']:>8.3f}{row['p95']:>8.3f}"
            print(f"  {name:<38}{cells}  {value:.2f} [{low:.2f}, {high:.2f}]")
    print(f"\nsame pixels: {result['same_pixels_as_opencv']}")


if __name__ == "__main__":
    main()
