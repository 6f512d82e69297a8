"""One readable file per method."""
