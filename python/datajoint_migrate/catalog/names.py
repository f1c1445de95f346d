"""Names: how long a server lets them be, which schemas are its own, which tables ours."""

from __future__ import annotations

import hashlib

NAME_CHARACTERS = 64
COMMENT_CHARACTERS = 1024
SYSTEM = frozenset({"information_schema", "mysql", "performance_schema", "sys"})

# Where 2.x looks for the origin of key attributes.
LINEAGE = "~lineage"
# Hidden tables of a destination while a copy is under way: what is done, indexes that are built
# last, triggers laid aside, and the mark of a schema that a copy began to make.
JOURNAL = "~migrate_journal"
POSTPONED = "~migrate_indexes"
LAID_ASIDE = "~migrate_triggers"
MAKING = "~migrate_making"
# What a copy remembers of itself, for as long as it is one.
SYNC = "~migrate_sync"
# Beginnings of names: a table that is built beside another, and the one whose place it took.
NEW = "~migrate_new_"
OLD = "~migrate_old_"
# Pointers and the JSON they become, while a column is converted where it stands.
MAP = "~migrate_pointers"
# The files that the rows of a sample refer to.
SAMPLE_FILES = "~migrate_sample_files"
# What a backup says of itself, and what a restore has done.
RECORD = "~migrate_backup"
PROGRESS = "~migrate_restore"
# Steps of a rename, a cutover, a rollback.
RENAMING = "~rename_journal"


def new_name(table: str) -> str:
    """Where a table is built beside the one of that name; 2.x shows no name that begins so."""
    return NEW + _mark(table)


def old_name(table: str) -> str:
    """Where the table of that name goes when another takes its place."""
    return OLD + _mark(table)


def _mark(table: str) -> str:
    return hashlib.sha256(table.encode()).hexdigest()[:16]
