"""The daemon: owns every session's process and is the only one that decides about them."""
