"""Verbs that only look: nothing is changed."""
