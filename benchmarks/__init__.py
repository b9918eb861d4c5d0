"""Measurements of warmd against floors measured in the same run; `python -m benchmarks.hops`."""
