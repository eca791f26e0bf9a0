"""The journal against what a kill, a full disk or a mistake leaves in its place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pytest

from hrnet_deploy.errors import InputError
from hrnet_deploy.predict.frames import Boxes, Frame, Predicted
from hrnet_deploy.predict.journal import PredictJournal
from hrnet_deploy.runtime.pose import Poses, instance_scores

NAMES = ("a", "b")


def predicted(number: int, persons: int = 2) -> Predicted:
    rng = np.random.default_rng(number)
    scores = rng.random((persons, 2)).astype(np.float32)
    boxes = Boxes(rng.random((persons, 4)), rng.random(persons), np.arange(persons))
    keypoints = rng.normal(0, 100, (persons, 2, 2)).astype(np.float32)
    poses = Poses(keypoints, scores, boxes.xyxy, instance_scores(scores, boxes.scores), NAMES)
    image = np.zeros((4, 6, 3), np.uint8)
    return Predicted(Frame("v.mp4", PurePath("v.mp4"), image, number=number), boxes, poses)


def written(path: Path, count: int = 3) -> bytes:
    with PredictJournal(path, {"engine": "x"}, NAMES) as journal:
        for number in range(count):
            journal.write([predicted(number, number)])
    return path.read_bytes()


def bare(number: int) -> Frame:
    return Frame("v.mp4", PurePath("v.mp4"), None, number=number)


def test_results_come_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path)
    with PredictJournal(path, {"engine": "x"}, NAMES) as journal:
        assert journal.resumed
        assert journal.has("v.mp4", 2)
        assert not journal.has("v.mp4", 3)
        for number in range(3):
            found, expected = journal.known(bare(number)), predicted(number, number)
            assert found is not None
            assert found.frame.size_wh == (6, 4)
            for name in ("keypoints_px", "scores", "boxes_xyxy", "instance_scores"):
                np.testing.assert_array_equal(
                    getattr(found.poses, name), getattr(expected.poses, name)
                )
        assert journal.known(predicted(3).frame) is None


def test_any_cut_is_survived_and_the_rest_can_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    whole = written(path)
    for cut in range(0, len(whole), 37):
        path.write_bytes(whole[:cut])
        with PredictJournal(path, {"engine": "x"}, NAMES) as journal:
            known = sum(journal.has("v.mp4", number) for number in range(3))
            for number in range(3):
                frame = predicted(number, number)
                journal.write([journal.known(frame.frame) or frame])
            counts = re.findall(rb'^\{"frames": \d, "check": \d+\}\n', whole[:cut], re.MULTILINE)
            assert known == len(counts)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"some text", b"some text\n", b'{"format": "x"}\n', b"\xff\n"])
def test_other_files_are_refused_and_kept(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a journal of predict"):
        PredictJournal(path, {"engine": "x"}, NAMES)
    assert path.read_bytes() == content
    assert sorted(file.name for file in tmp_path.iterdir()) == ["j"]


def refused_and_kept(path: Path, lines: list[bytes], number: int, damage: bytes) -> None:
    """A journal of ``lines``, of which the one called ``number`` is ``damage``."""
    content = b"".join([*lines[: number - 1], damage, *lines[number:]])
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"is damaged at line {number}. Move it away"):
        PredictJournal(path, {"engine": "x"}, NAMES)
    assert path.read_bytes() == content


def test_a_flipped_bit_is_noticed_on_every_line(tmp_path: Path) -> None:
    """Also where the line is valid JSON with it: one pose would be another, without a word."""
    lines = written(tmp_path / "j").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        flipped = line[:-20] + bytes([line[-20] ^ 1]) + line[-19:]
        refused_and_kept(tmp_path / "j", lines, number, flipped)


def test_damage_before_the_end_is_refused_and_kept(tmp_path: Path) -> None:
    lines = written(tmp_path / "j").splitlines(keepends=True)
    for number in range(2, len(lines) + 1):
        for damage in (b"#" + lines[number - 1], b'{"frames": "x"}\n', b"[]\n"):
            refused_and_kept(tmp_path / "j", lines, number, damage)


def test_two_runs_do_not_share_one(tmp_path: Path) -> None:
    with (
        PredictJournal(tmp_path / "j", {}, NAMES),
        pytest.raises(InputError, match="is working on this output"),
    ):
        PredictJournal(tmp_path / "j", {}, NAMES)


def test_a_known_frame_that_changed_is_an_error(tmp_path: Path) -> None:
    written(tmp_path / "j")
    with (
        PredictJournal(tmp_path / "j", {"engine": "x"}, NAMES) as journal,
        pytest.raises(InputError, match="has changed since the run began"),
    ):
        journal.known(bare(1))


def test_a_source_that_is_given_twice_is_found_twice(tmp_path: Path) -> None:
    path = tmp_path / "j"
    first, other = (replace(predicted(n), frame=picture(f"{n}.png")) for n in (1, 2))
    with PredictJournal(path, {"engine": "x"}, NAMES) as journal:
        journal.write([first])
        journal.write([other])
    with PredictJournal(path, {"engine": "x"}, NAMES) as journal:
        for expected in (first, first, other, other, first):
            found = journal.known(replace(expected.frame, image_bgr=None))
            assert found is not None
            np.testing.assert_array_equal(found.poses.scores, expected.poses.scores)
    written(path := tmp_path / "k")
    with PredictJournal(path, {"engine": "x"}, NAMES) as journal:
        for number in (0, 1, 2, 0, 1, 2):
            assert journal.known(bare(number)) is not None


def picture(name: str) -> Frame:
    return Frame(name, PurePath(name), np.zeros((4, 6, 3), np.uint8))


def test_a_journal_without_frames_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with PredictJournal(path, {"engine": "x"}, NAMES):
        left = path.read_bytes()
    assert not list(tmp_path.iterdir())
    path.write_bytes(left)  # as a process that was killed before its first frame
    with PredictJournal(path, {"engine": "another"}, NAMES) as journal:
        assert not journal.resumed
        journal.write([predicted(0)])
    with PredictJournal(path, {"engine": "another"}, NAMES) as journal:
        assert journal.resumed
