"""Every bound and budget of a call, in one object: what is measured, what is waited for, how long.

Bounds of servers and clients (64 characters of a name) are facts, and stand where they are used.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Limits:
    """Read when they are needed, so that a test or a program may set one for a while."""

    # -- rows ------------------------------------------------------------------------------
    # Connections that read at once; the calls' own default.
    lanes: int = 4
    # What one transaction of a copy holds, and what a whole run does.
    chunk_bytes: int = 16 << 20
    memory_bytes: int = 256 << 20
    # What a snapshot may stay open for before a copy without one is recommended.
    snapshot_seconds: float = 1800.0
    # One record batch of a stream.
    batch_bytes: int = 4 << 20
    # Seconds before a copy that has given way goes on.
    pauses: tuple[int, ...] = (1, 2, 4, 8)
    # UPDATE_TIME counts whole seconds: a younger change may hide a second one.
    settled_seconds: int = 2
    # Keys that a log may name of a table before all of it is read.
    log_keys: int = 20_000
    # Of the buffer pool, what an index may fill before its pages are read again for every row.
    large_index_share: float = 0.5
    # Indexes of so many bytes, and of that part of their table's rows, are cheaper built at once.
    late_index_bytes: int = 16 << 20
    late_index_part: float = 0.125
    # Memory of the server for sorting one index; its default of 1 MiB merges large ones in many
    # passes.
    sort_bytes: int = 64 << 20
    index_builders: int = 2
    lineage_rows_per_insert: int = 500
    # Connections of a run besides its lanes: on the source who plans, who looks after the others,
    # and who is asked about one that is silent; on the other side who writes the journal and who
    # counts.
    connections_at_source: int = 3
    connections_at_destination: int = 3

    # -- files -----------------------------------------------------------------------------
    # So many batches wait at the workers: enough to keep a cluster busy, few enough to hold.
    batches_under_way: int = 64
    # Chunks of a table that go to a worker together: it reads what pointers lead to once for them.
    chunks_together: int = 8
    # Files of batches copied in one go on this machine: a disk is flushed once for all.
    files_together: int = 8192
    # To read a tracking row in its order takes less than a quarter of the time to look one up.
    merged_share: int = 4
    pointers_per_page: int = 5000

    # -- what is listed --------------------------------------------------------------------
    listed_errors: int = 1000
    listed_files: int = 10_000
    listed_values: int = 1000
    listed_conflicts: int = 1000
    # Of what a rollback cannot bring back, for each table or column.
    listed_left: int = 100
    shown_examples: int = 3
    shown_orphans: int = 10
    shown_keys: int = 10
    shown_values: int = 5
    shown_programs: int = 5
    shown_statement: int = 200
    shown_text: int = 200

    # -- samples ---------------------------------------------------------------------------
    sample_tables: int = 3
    sample_rows: int = 50_000
    sample_bytes: int = 32 << 20
    # A table that is a smaller share of the whole says little.
    sample_share: float = 0.05

    # -- reading what others wrote -----------------------------------------------------------
    # Error stacks can be long, so the rows come in pages.
    jobs_per_page: int = 200
    # What a key may not outgrow, should its length be that of a broken blob.
    packed_key_bytes: int = 1 << 20
    # Of a blob, what is looked at, and how long the name of an attachment may be.
    blob_head_bytes: int = 64
    attachment_name_bytes: int = 256
    # Of a table whose blobs are looked at beside other things.
    head_rows: int = 1000
    head_bytes: int = 16 << 20
    # Regular expressions over longer texts exhaust the server's stack.
    text_characters: int = 2000

    # -- waiting ---------------------------------------------------------------------------
    # How long copies wait for a server or a service that went away; with a snapshot, ten at most.
    away_seconds: int = 120
    # The session of a process that was killed a moment ago may still be there.
    turn_seconds: int = 5
    # A named lock has one holder, so each schema has one for each call that reads it.
    readers: int = 16
    # How often a call that waits looks whether it may go on, and how long the server's word counts.
    throttle_tick: float = 0.1
    load_seconds: float = 1.0
    silence_tick: float = 0.5

    # A statement that needs a table for itself waits so long in one go, and lets others pass; and
    # so long in all, one that would have to rebuild the table again less.
    lock_slice_seconds: int = 1
    lock_turn_seconds: float = 1.5
    lock_seconds: float = 60.0
    rebuild_lock_seconds: float = 10.0

    # -- promoting a column in use -----------------------------------------------------------
    # In slices, as above: a table that is in use for hours is not given up soon.
    promote_lock_seconds: float = 240.0
    # How often values that were written meanwhile are gone through before a call gives up.
    promote_rounds: int = 20
    # Rows written meanwhile that are looked at while everybody waits, or are one chunk.
    promote_notes: int = 1000

    # -- exchanging schemas ------------------------------------------------------------------
    # A rename waits for every open transaction on its tables, and whoever comes later waits for it.
    restore_lock_seconds: int = 30
    # Longer than this is an error, and nothing is renamed.
    rename_lock_seconds: int = 10
    rename_turn_seconds: int = 60
    watch_lock_seconds: int = 10
    journal_rows_per_insert: int = 200
    # How long production is held in one go, and let go: nobody waits longer than three seconds.
    hold_slice_seconds: float = 1.5
    hold_turn_seconds: float = 1.0
    # How long the server tells of a session that has just begun to wait.
    hold_moment: float = 0.02
    hold_moments: int = 250
    # Sessions that guard tables of MariaDB while they are renamed: each takes moments to open.
    guards: int = 64
    ended_moment: float = 0.2
    ended_moments: int = 5
    # The server keeps whole seconds: a change in the second of the look leaves the same time.
    rest_seconds: int = 2
    # How often production is compared again because somebody wrote to it.
    looks: int = 3
    # A cutover that syncs: how often it does before it asks anybody to wait, how short the last of
    # these is to be, and how long writers then wait at most until they get their tables back.
    hot_syncs: int = 5
    short_sync_seconds: float = 3.0
    cutover_wait_seconds: float = 30.0


LIMITS = Limits()
