"""Downstream tasks: one file per kind, data sets as rows of a table in it."""
