"""Published checkpoints and detectors: what there is, and downloads on the user's word."""
