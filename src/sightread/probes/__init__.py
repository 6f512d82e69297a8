"""What an encoder knows of the looks of things and of words, asked without training it."""
