"""Reading pictures, captions and corpora; masking; the controlled world."""
