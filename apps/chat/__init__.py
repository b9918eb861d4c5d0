"""A small language model that remembers the conversation; see README.md beside this file."""

from warmd.apps.chat.app import Chat

__all__ = ["Chat"]
