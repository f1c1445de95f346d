"""A 0.14.6 pipeline whose computations fail, and what 2.x computes of its migrated copy."""
