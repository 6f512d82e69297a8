"""Heads, losses and exact search: plain parts with flat arguments."""
