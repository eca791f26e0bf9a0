"""What decoding JPEG files costs, and whether another decoder gives the same pixels.

    python benchmarks/jpeg.py val2017/

simplejpeg (libjpeg-turbo's TurboJPEG) takes part where it is installed. CPU milliseconds a picture,
all ways in turn in every round. Writes benchmarks/results/jpeg.json.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import script
from cpu_suite.pipelines import READ_FLAGS
from stand_in import cpu_seconds

from hrnet_deploy.benchmark.machine import machine_facts
from hrnet_deploy.benchmark.statistics import paired_ratio, summarise
from hrnet_deploy.runtime.image import read_image

FIRST = "cv2.imread"
EIGHTH = cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION
Ways = dict[str, Callable[[], object]]


def main() -> None:
    """Measure, write the result and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder of .jpg files")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path, default=script.RESULTS / "jpeg.json")
    arguments = parser.parse_args()
    files = [str(path) for path in sorted(arguments.images.glob("*.jpg"))[: arguments.limit]]
    if not files:
        parser.error(f"{arguments.images} has no .jpg files")
    cv2.setNumThreads(1)
    script.run("jpeg", arguments.output, lambda _: measured(files, arguments.rounds), show)


def measured(files: list[str], rounds: int) -> dict[str, Any]:
    """Everything that goes into the result."""
    ways, same = decoders(files)
    taken = cpu_seconds(ways, rounds)
    return {
        "command": script.command(),
        "machine": machine_facts(1),
        "simplejpeg": metadata.version("simplejpeg") if same else None,
        "pictures": len(files),
        "megapixels": round(sum(read_image(file)[..., 0].size for file in files) / 1e6, 3),
        "share_of_pictures_equal_to_opencv": same,
        "cpu_ms_a_picture": {
            name: row(taken[FIRST], seconds, len(files)) for name, seconds in taken.items()
        },
    }


def decoders(files: list[str]) -> tuple[Ways, dict[str, float]]:
    """Ways to decode all pictures, and the share of pictures that are equal to OpenCV's.

    At an eighth of the size little follows the entropy decoding, which even a decoder for parts of
    a picture has to do up to the last row: the difference is what such a one could save at most.
    """
    contents = [np.fromfile(file, np.uint8) for file in files]
    ways: Ways = {
        FIRST: lambda: [cv2.imread(file, READ_FLAGS) is None for file in files],
        "read_image, with its checks": lambda: [read_image(file) is None for file in files],
        "cv2, an eighth of the size": lambda: [cv2.imdecode(c, EIGHTH) is None for c in contents],
    }
    try:
        simplejpeg = importlib.import_module("simplejpeg")
    except ImportError:
        return ways, {}
    same = {}
    for name, fast in (("simplejpeg, exact", False), ("simplejpeg, fast", True)):

        def decode(content: Any, fast: bool = fast) -> Any:
            return simplejpeg.decode_jpeg(content, "BGR", fastdct=fast, fastupsample=fast)

        ways[name] = lambda decode=decode: [decode(content) is None for content in contents]
        equal = [np.array_equal(decode(c), cv2.imdecode(c, READ_FLAGS)) for c in contents]
        same[name] = float(np.mean(equal))
    return ways, same


def row(first: list[float], seconds: list[float], pictures: int) -> dict[str, Any]:
    """Milliseconds a picture, and how many times less than the first way it is."""
    summary = summarise([1e3 * value / pictures for value in seconds])
    ratio = paired_ratio(first, seconds)
    return {
        "median": round(summary.median, 4),
        "p5": round(summary.p5, 4),
        "p95": round(summary.p95, 4),
        "times_less": [round(value, 3) for value in (ratio.value, ratio.low, ratio.high)],
    }


def show(result: dict[str, Any]) -> None:
    """Print the table as Markdown."""
    print("| decoder | CPU ms a picture | p5 | p95 | times less | same pixels |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, cells in result["cpu_ms_a_picture"].items():
        times = "{:.2f} [{:.2f}, {:.2f}]".format(*cells["times_less"])
        numbers = " | ".join(f"{cells[key]:.3f}" for key in ("median", "p5", "p95"))
        same = result["share_of_pictures_equal_to_opencv"].get(name)
        print(f"| {name} | {numbers} | {times} | {'' if same is None else f'{same:.0%}'} |")


if __name__ == "__main__":
    main()
