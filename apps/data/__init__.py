"""Tables in memory, and analyses of them; see README.md beside this file."""

from warmd.apps.data.app import Data

__all__ = ["Data"]
