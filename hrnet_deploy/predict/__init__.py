"""From pictures, videos and cameras to poses: sources, boxes, the pipeline and its outputs."""
