"""A schema kept safe, on a server or in an archive, and put back."""
