"""From pictures, videos and boxes to poses, in three calls."""

from __future__ import annotations

import threading
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrnet_deploy.closing import Closing
from hrnet_deploy.engines import Engine
from hrnet_deploy.errors import InputError, Subject, check_count
from hrnet_deploy.predict.aside import Bridge, stream
from hrnet_deploy.predict.follow import followed
from hrnet_deploy.predict.frames import Boxes, Finder, Frame, Predicted
from hrnet_deploy.predict.inputs import frames_of
from hrnet_deploy.predict.options import EstimatorOptions, VideoOptions
from hrnet_deploy.predict.pipeline import Pipeline
from hrnet_deploy.predict.poses import start_poses
from hrnet_deploy.predict.video import VideoChoice
from hrnet_deploy.runtime.checks import checked_boxes, checked_image, checked_path
from hrnet_deploy.runtime.engine_options import EngineOptions
from hrnet_deploy.runtime.flip_choice import with_flip
from hrnet_deploy.runtime.pose import Poses
from hrnet_deploy.talk import Say

if TYPE_CHECKING:
    from typing_extensions import Unpack

Image = NDArray[np.uint8]
"""A picture (H, W, 3) uint8 BGR, as OpenCV decodes it."""

BoxesOf = Callable[[Frame], Boxes | ArrayLike]
"""The persons of a frame: a ``PersonDetector``, or any function that gives boxes (N, 4)."""


class PoseEstimator(Closing):
    """Keypoints of persons in boxes: ``PoseEstimator("w32.onnx")(image_bgr, boxes_xyxy)``.

    Takes the path of an engine file (.onnx or .plan), which it closes again, or a loaded engine,
    which it leaves open. ``device``, ``threads``, ``backend`` and ``precision`` are those of
    ``load_engine``, and too late for a loaded engine (InputError); ``batch_size`` crops go to the
    engine at once, which bounds the memory for them. ``flip`` is "exact" or "off" to make sure of
    what the engine contains, or "adaptive": persons whose heatmaps are ambiguous are looked at a
    second time, mirrored, with an engine that was exported without flip-test; ``flip_threshold``
    says who, by default as ``hrnet-deploy calibrate-flip`` found. A context manager. May be called
    from several threads at once where its engine may.
    """

    def __init__(
        self,
        engine: Engine | Subject,
        *,
        device: str | None = None,
        threads: int | None = None,
        backend: str | None = None,
        precision: str = "exact",
        batch_size: int = 32,
        flip: str | None = None,
        flip_threshold: float | None = None,
    ) -> None:
        self.batch_size = check_count("batch_size", batch_size)
        self._owns_engine = not isinstance(engine, Engine)
        options = EngineOptions(device, threads, backend, precision, flip, flip_threshold)
        if isinstance(engine, Engine):
            options.check_loaded()
            self.engine = with_flip(engine, flip, threshold=flip_threshold)
        else:
            self.engine = options.open(checked_path(engine))

    @classmethod
    def from_pretrained(
        cls,
        model: Subject,
        *,
        download: bool = False,
        say: Say | None = None,
        **options: Unpack[EstimatorOptions],
    ) -> PoseEstimator:
        """An estimator of an engine file, of a checkpoint, or of a name in the zoo.

        A text without dot and slash is a name (``hrnet-deploy zoo list``), everything else a
        path. A checkpoint is exported once, with parity proven, into the file that
        ``hrnet-deploy export`` would write beside it; that needs the extra ``export``. A name
        that is not there is an InputError with the command that gets it; ``download=True`` is
        the word to download it. ``say`` is told of downloads and exports; stderr by default.
        ``options`` are those of the class.
        """
        from hrnet_deploy.zoo.pretrained import engine_file

        return cls(engine_file(checked_path(model), download=download, say=say), **options)

    def __call__(self, image_bgr: Image, boxes_xyxy: ArrayLike | Boxes) -> Poses:
        """Poses of the persons in ``boxes_xyxy`` (N, 4), edges in pixels of ``image_bgr``.

        The picture is (H, W, 3) uint8 BGR as OpenCV decodes it. Boxes may reach outside of it; a
        detector's ``Boxes`` come with scores, which count in ``instance_scores`` as in
        ``predict``. No boxes give no poses.
        """
        return self.predict_many([image_bgr], [boxes_xyxy])[0]

    def predict_many(
        self, images_bgr: Sequence[Image], boxes_xyxy: Sequence[ArrayLike | Boxes]
    ) -> list[Poses]:
        """The same for several pictures, whose persons share batches; one result a picture."""
        if len(images_bgr) != len(boxes_xyxy):
            problem = f"has {len(boxes_xyxy)} entries for {len(images_bgr)} images"
            raise InputError("boxes_xyxy", problem, "Give one array of boxes for each image")
        images = [checked_image(image) for image in images_bgr]
        persons = [_boxes(boxes) for boxes in boxes_xyxy]
        found = start_poses(self.engine, images, persons, batch_size=self.batch_size)()
        return [each.poses for each in found]

    def video(
        self,
        source: Subject | Iterable[Image],
        boxes_of: BoxesOf,
        *,
        every: int = 1,
        start_s: float = 0.0,
        duration_s: float | None = None,
        track: bool = False,
        smooth: bool = False,
        note: Say = lambda line: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Iterator[Predicted]:
        """The poses in each frame of a video file, a camera, a stream, or any iterable of frames.

        ``source`` is a path, a camera's number as text, a URL, or pictures (H, W, 3) uint8 BGR.
        ``boxes_of`` gives the persons of a frame: a ``PersonDetector``, or any function of a
        ``Frame`` that returns boxes (N, 4), edges in pixels of ``frame.image_bgr``. Every
        ``every``-th frame counts, from ``start_s`` on for ``duration_s`` seconds. ``track``
        numbers the persons (``predicted.ids``), ``smooth`` smooths along the numbers. Frames are
        decoded ahead; of a live source always the newest is given, and a frame of an iterable is
        answered before the next is asked for. A frame that cannot be decoded, or whose boxes are
        refused, has an ``error`` and no poses. ``note`` hears what was odd about a file;
        ``stopped`` may end a camera or stream. Raises InputError for what is no video.
        """
        choice = VideoChoice(check_count("every", every), start_s, duration_s)
        frames, at_once = frames_of(source, choice, note, stopped)

        if not callable(boxes_of):
            problem = f"expected a detector or a function, got {type(boxes_of).__name__}"
            raise InputError("boxes_of", problem, "Give what returns the boxes of a frame")

        def checked(frame: Frame) -> Boxes:
            return _boxes(boxes_of(frame))

        persons = boxes_of if isinstance(boxes_of, Finder) else checked
        pipeline = Pipeline(self.engine, persons, batch_size=self.batch_size, live=at_once)
        spec = self.engine.spec

        def results() -> Iterator[Predicted]:
            with closing(pipeline(frames)) as found:
                yield from followed(found, spec, track=track, smooth=smooth)

        return results()

    async def astream(
        self,
        source: Subject | Iterable[Image] | AsyncIterable[Image],
        boxes_of: BoxesOf,
        **options: Unpack[VideoOptions],
    ) -> AsyncIterator[Predicted]:
        """``video`` for ``async for``: the work is done in a thread, the event loop goes on.

        ``source`` may be an asynchronous iterable of pictures as well; ``options`` are those of
        ``video``. Leaving the loop early ends the wait for a picture, and stops the thread after
        the frame at hand.
        """
        left = threading.Event()
        leave: Callable[[], None] = left.set
        if isinstance(source, AsyncIterable):
            source = Bridge(source)
            leave = source.stop
        results = self.video(source, boxes_of, stopped=left.is_set, **options)
        async with aclosing(stream(results, leave=leave)) as items:
            async for predicted in items:
                yield predicted

    def close(self) -> None:
        """Close the engine if it was loaded here."""
        if self._owns_engine:
            self.engine.close()


def _boxes(boxes: ArrayLike | Boxes) -> Boxes:
    """Persons with their scores, 1 where there are none; InputError for what is no box."""
    if not isinstance(boxes, Boxes):
        xyxy = checked_boxes(boxes)
        return Boxes(xyxy, np.ones(len(xyxy)))
    xyxy, scores = checked_boxes(boxes.xyxy), np.asarray(boxes.scores, np.float64)
    if scores.shape != (len(xyxy),) or not np.isfinite(scores).all():
        problem = f"has {len(xyxy)} boxes with scores {scores.tolist()}"
        raise InputError("boxes_xyxy", problem, "Give one finite score for each box")
    if boxes.ids is not None and len(boxes.ids) != len(xyxy):
        problem = f"has {len(xyxy)} boxes with {len(boxes.ids)} ids"
        raise InputError("boxes_xyxy", problem, "Give one id for each box, or none at all")
    return Boxes(xyxy, scores, boxes.ids)
