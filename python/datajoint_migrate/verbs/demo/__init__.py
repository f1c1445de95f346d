"""A small pipeline that comes along, to be migrated on anybody's server."""
