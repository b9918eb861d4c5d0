"""The rule book: what happens to sessions and calls, without a clock, a socket or a process."""
