"""Hugging Face text and image encoders, and their features."""
