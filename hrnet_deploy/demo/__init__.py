"""Try everything without a download: synthetic people and a small network trained on them."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = Path(__file__).with_name("hrnet_w16_coco17_128x96.pth")
"""The trained network (official key layout); README.md beside it says how it came about."""
