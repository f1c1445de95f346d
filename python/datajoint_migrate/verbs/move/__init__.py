"""Verbs that move schemas, rows and files."""
