"""Hints in the words of a command line: the functions speak of keywords, a shell has options."""

from __future__ import annotations

import re
from collections.abc import Callable

# A dict as Python writes it, one in another at most.
BRACES = r"\{(?:[^{}]|\{[^{}]*\})*\}"


def option(argument: str) -> str:
    """An argument of a function as an option."""
    return "--" + argument.replace("_", "-")


# In the order in which they are tried; the plan's tables are where an option lies that no command
# has.
WORDS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"call without execute=True to see all checks", "see all checks without --execute"),
    (
        r"call(?:ed)? again with execute=True, or rollback",
        "run it again with --execute, or dj-migrate rollback --execute",
    ),
    (r"call rollback with execute=True", "run dj-migrate rollback --execute"),
    (r"call with dry_run=False first", "run it without --dry-run first"),
    (r"(?:say |pass |with )?execute=True", "--execute"),
    (r"(?:say |pass )?overwrite=True", "--overwrite"),
    (r"\(or end_sessions=True\)", "(or --end-sessions)"),
    (r"(?:say |pass )?with_files=True", "--with-files"),
    (r"leave out with_files", "leave out --with-files"),
    (r"(?:say |pass )?unseen='leave'", "--leave-unseen"),
    (r"pass copy_files=True", "set copy_files = true under [options] of the plan"),
    (r"drop=True", "--drop"),
    (r"definers=\[([^\]]*)\](?: \(--definer\))?", r"--definer \1, once for each"),
    (
        r"pass connection='mysql://user:password@host/', or set DJ_HOST, DJ_USER, DJ_PASS",
        "give --connection mysql://user@host/, or set DJ_HOST, DJ_USER and DJ_PASS, or work in"
        " the folder of dj_local_conf.json",
    ),
    (r"backups=\{'([^']+)': \.\.\.\}", r"dj-migrate backup, or --backup \1=…"),
    (r"rename_schema\('([^']+)', '([^']+)'\)", r"dj-migrate rename \1 \2"),
    (r"give another suffix, or archive_map=\{[^}]*\}", "give another --suffix"),
    (r"\(suffix, archive_map\)", "(--suffix)"),
    (r"in schema_map", "in [schemas] of the plan"),
    (r"to schema_map", "to [schemas] of the plan"),
    (r"outside schema_map", "outside [schemas] of the plan"),
    (r"\bschema_map\b", "[schemas]"),
    (
        r"add stores\.(\S+) to datajoint\.json",
        r"add stores.\1 to datajoint.json (dj-migrate config --execute makes it of 0.14.6's)",
    ),
    (r"dest_stores=" + BRACES, "it under [stores.destination] of the plan"),
    (r"source_stores=" + BRACES, "it under [stores.source] of the plan"),
    (r"\bdest_stores\b", "[stores.destination]"),
    (r"\bsource_stores\b", "[stores.source]"),
    (r"\bstore_map\b", "[stores.map]"),
    (r"\bfinal_names\b", "[final_names]"),
    (r"adapters=\{\"?'?(\w+)'?\"?: ['\"]([^'\"]+)['\"]\}", r'\1 = "\2" under [adapters]'),
    (r"(unsigned|charset)='(\w+)'", r'\1 = "\2" under [options] of the plan'),
    (r"^(\w+) of \w+ is ('.*')$", lambda found: f"{option(found[1])} is {found[2]}"),
    (r"give \{'my_lab': 'my_lab_v20'\}", "name them under [schemas] of the plan"),
    (r"give \{'source': 'destination', \.\.\.\}", "name them under [schemas] of the plan"),
    (r"use_tls=True", "ssl-mode=required"),
    (r"(?:say it: )?adapters=" + BRACES, "say it under [adapters] of the plan"),
    (r"programs=False \(--no-programs\)", "--no-programs"),
    (r"undo=True", "--undo"),
    (r"drop_old=True", "--drop-old"),
    (r"say it: source_schema='my_pipeline'", "name its schema"),
    (r"or undo it with rollback", "or undo it with dj-migrate rollback"),
    (r"give restrictions=" + BRACES, "give --rows \"Session=session_date > '2024-01-01'\""),
    (r"or a limit; copy_all_data copies everything", "or --limit; dj-migrate run copies all"),
    (r"lanes=(\d+)", r"lanes = \1"),
    (r"source_store='([^']+)'", r"the store \1"),
    (r"\bcall (migrate|copy_all_data) again", "run dj-migrate run again"),
    (r"\bcall sync again", "run dj-migrate sync again"),
    (r"\bcall backup_schema again", "run dj-migrate backup again"),
    (r"\bcall (cutover|rollback)\b", r"run dj-migrate \1"),
    (r"(then )?the same call again", r"\1the same command again"),
    (r"start the same command again", "run the same command again"),
    (r"the same call goes on", "the same command goes on"),
    (r"another call is at work", "another command is at work"),
    (r"this call('s)?", r"this command\1"),
)


def spoken(text: str) -> str:
    """The text with the command line's own words."""
    for pattern, words in WORDS:
        text = re.sub(pattern, words, text)
    return text
