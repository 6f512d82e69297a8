"""Giving a run away: its model card, and its checkpoint on the Hugging Face Hub."""
