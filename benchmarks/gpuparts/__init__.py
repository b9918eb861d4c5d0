"""The parts of `benchmarks.gpu`, and what they have in common."""

LLAMA_VARIABLE = "BENCH_LLAMA"
"""Names the folder of the model to the processes that load it."""
