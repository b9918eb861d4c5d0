"""Python cells whose state is kept; see README.md beside this file."""

from warmd.apps.python.app import Python

__all__ = ["Python"]
