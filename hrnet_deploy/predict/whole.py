"""The explicit choice to take the whole picture as one person."""

from __future__ import annotations

import numpy as np

from hrnet_deploy.predict.frames import Boxes, Frame, no_boxes


def whole_image(frame: Frame) -> Boxes:
    """One box around all of the picture, with score 1."""
    if frame.size_wh is None:
        return no_boxes()
    width, height = frame.size_wh
    return Boxes(np.array([[0.0, 0.0, width, height]]), np.ones(1))
