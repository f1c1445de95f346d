"""A report on a migration: one HTML page, made of what its record tells."""
