"""What runs in a session's process.  Single-threaded, and clean to fork."""
