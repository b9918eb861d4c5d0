"""A model for the chat app in the form of Hugging Face, made in a second: random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["user assistant system", "You are a helpful assistant.", "hello world, how are you today? höher 雪"]


def tokenizer(template: str | None = TEMPLATE) -> Any:
    """Byte-level, so that a character may take several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.chat_template = template
    return wrapped


def make(
    folder: Path, *, positions: int = 512, template: str | None = TEMPLATE, endless: bool = False
) -> Path:
    """Saves a two-layer model with its tokenizer; `endless`: the likeliest token is never one that ends."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer(template)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            initializer_range=0.4,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    if endless:
        model.lm_head.weight.data[[0, words.eos_token_id]] = 0
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
