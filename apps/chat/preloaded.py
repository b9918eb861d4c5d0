"""The same app for folders of transformers, which it imports at once with torch.

Sessions are forked from a process that has imported the app's module, so these imports, seconds
long, are paid by the first session alone.  The app `chat` itself does not know before `setup` which
engine it needs.
"""

from warmd.apps.chat import transformers_engine
from warmd.apps.chat.app import Chat

__all__ = ["Chat", "transformers_engine"]
