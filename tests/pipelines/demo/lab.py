"""Schema `lab` of the demonstration: animals, sessions and trials (0.14.6)."""

from __future__ import annotations

import datajoint as dj

schema = dj.Schema()


@schema
class Species(dj.Lookup):  # type: ignore[misc]
    definition = """
    species : varchar(24)
    """
    contents = (("Mus musculus",), ("Rattus norvegicus",))


@schema
class Subject(dj.Manual):  # type: ignore[misc]
    definition = """
    # animals: 100%% of them
    subject_id : int unsigned       # number on the ear
    ---
    -> Species
    subject_uuid : uuid
    sex : enum('F', 'M', 'unknown')
    born=null : date
    weight : float                  # grams: seven digits and more
    nickname="" : varchar(32)       # the lab's own: Zoë
    """


@schema
class Session(dj.Manual):  # type: ignore[misc]
    definition = """
    -> Subject
    session : smallint unsigned
    ---
    started : datetime(6)
    temperature=null : decimal(5, 2)
    settings : longblob             # a dict
    """

    class Trial(dj.Part):  # type: ignore[misc]
        definition = """
        -> master
        trial : tinyint unsigned
        ---
        onset : double              # seconds
        outcome=null : enum('hit', 'miss')
        stimulus : longblob         # an array
        """
