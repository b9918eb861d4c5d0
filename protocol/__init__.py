"""What crosses a socket: messages, their frames, and the client's half of a conversation."""
