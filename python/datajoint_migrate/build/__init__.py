"""Schemas made: decided from the source, built in the destination, proved."""
