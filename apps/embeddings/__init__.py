"""Texts to vectors, with a local model of the sentence-transformers kind; see README.md beside this file."""

from warmd.apps.embeddings.app import Embeddings

__all__ = ["Embeddings"]
