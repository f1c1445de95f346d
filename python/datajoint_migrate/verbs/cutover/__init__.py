"""Schemas change names and places, journalled, and back again."""
