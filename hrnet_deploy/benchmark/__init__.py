"""What a machine can do with an engine: measured side by side, with everything that disturbs."""
