"""Any language model in a folder of transformers, made for GPUs; see README.md beside this file."""

from warmd.apps.llm.app import Llm

__all__ = ["Llm"]
