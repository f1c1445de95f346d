"""A schema changed where it stands, for 2.x alone or for both clients at once."""
