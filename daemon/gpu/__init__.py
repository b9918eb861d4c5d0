"""GPUs: what there is on them, and their memory moved to host memory and back by the driver."""
