"""Text: tokenizer, chat template, sentences and the prompt."""
