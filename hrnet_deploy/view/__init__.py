"""A local page to try engines on pictures: draw boxes, see poses, compare."""
