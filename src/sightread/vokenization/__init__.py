"""From a corpus to a voken corpus, and to other tokenizers."""
