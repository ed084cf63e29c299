"""What the wings cost, measured side by side: `python -m benchmarks`, or `make bench`."""
