"""What apps with a language model share: options, sampling, text out of tokens, models of transformers."""
