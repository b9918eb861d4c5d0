"""warmd keeps expensive Python work warm: one long-lived process per session, called by id."""

__version__ = "0.1.0"
