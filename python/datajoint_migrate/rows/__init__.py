"""Rows moved: what goes where, by which way, and what is known of it afterwards."""
