"""Schema `colony` of the pipeline: parents, every SQL type, keys of every shape (0.14.6)."""

from __future__ import annotations

import datajoint as dj

schema = dj.Schema()


@schema
class Strain(dj.Lookup):  # type: ignore[misc]
    definition = """
    # strains; 'quoted' table comment, ünïcode δ, semi;colon: and `ticks`
    strain : varchar(24)   # official name
    ---
    common="" : varchar(64)   # everyday name: "double" and 'single', 100%% ünïcode 猴 \\\\
    """
    contents = (("C57BL/6J", "black six"), ("Wistar", "Ratte äöü 猴 🐀"), ("100% 'x' \"y\"", ""))


@schema
class Cage(dj.Lookup):  # type: ignore[misc]
    definition = """
    room : char(4)
    cage_number : smallint unsigned
    ---
    note=null : varchar(12)
    """
    contents = (("R1", 1, "a.1"), ("R1", 2, None), ("R2", 1, "b:2"), ("", 65535, ""))


@schema
class Animal(dj.Manual):  # type: ignore[misc]
    definition = """
    # animals
    animal_id : int unsigned   # the id: has a colon, 'single' quotes and ünïcode δ 猴
    ---
    -> Strain
    sex="unknown" : enum('M','F','unknown')   # not :a marker: at all
    mood="" : enum('','it\\'s','a:b','c d','ü')   # of the day: like enum(a,b)
    born=null : date
    genotype="wild:type" : varchar(64)   # percent 100%% and back\\\\slash
    animal_uuid : uuid    # global: id
    nickname=null : varchar(32)
    alive=1 : bool
    weight=12.5 : float    # grams
    unique index (nickname)
    index (born, sex)
    """


@schema
class Pedigree(dj.Manual):  # type: ignore[misc]
    definition = """
    # three renamed references to one parent
    -> Animal.proj(child_id="animal_id")
    -> Animal.proj(parent_id="animal_id")
    ---
    relation : enum('dam','sire')
    -> [nullable] Animal.proj(foster_id="animal_id")
    """


@schema
class Visit(dj.Manual):  # type: ignore[misc]
    definition = """
    -> Animal
    visit_date : date
    visit_number : tinyint unsigned
    ---
    -> [nullable] Cage
    -> [nullable, unique] Animal.proj(guest_id="animal_id")
    notes="" : varchar(4000)
    started=CURRENT_TIMESTAMP : timestamp   # automatic
    ended=null : datetime(6)
    """

    class Note(dj.Part):  # type: ignore[misc]
        definition = """
        -> master
        note_id : int
        ---
        words : varchar(255)   # -> an arrow in a comment
        """

    class Reply(dj.Part):  # type: ignore[misc]
        definition = """
        # a part whose key goes through another part
        -> master.Note
        reply_id : tinyint
        ---
        words=null : varchar(255)
        """


@schema
class Limits(dj.Manual):  # type: ignore[misc]
    definition = """
    # a column of every SQL type that can be declared
    row_id : int unsigned auto_increment
    ---
    t_tinyint=null : tinyint
    t_tinyint_u=null : tinyint unsigned
    t_smallint=null : smallint
    t_smallint_u=null : smallint unsigned
    t_mediumint=null : mediumint
    t_mediumint_u=null : mediumint unsigned
    t_int=null : int
    t_int_u=null : int unsigned
    t_integer=null : integer
    t_bigint=null : bigint
    t_bigint_u=null : bigint unsigned
    t_int11=null : int(11)
    t_tiny1=null : tinyint(1)
    t_bool=null : bool
    t_boolean=null : boolean
    t_float=null : float
    t_float_u=null : float unsigned
    t_double=null : double
    t_real=null : real
    t_float_p=null : float(7,3)
    t_decimal=null : decimal(12,4)
    t_decimal_u=null : decimal(6,2) unsigned
    t_decimal_d=null : decimal
    t_numeric=null : numeric(8,3)
    t_char=null : char(5)
    t_varchar=null : varchar(100)
    t_enum=null : enum('a','b c','d\\'e','ü:x')
    t_date=null : date
    t_time=null : time
    t_time3=null : time(3)
    t_datetime=null : datetime
    t_datetime6=null : datetime(6)
    t_timestamp=null : timestamp
    t_timestamp3=null : timestamp(3)
    t_year=null : year
    t_json=null : json
    t_uuid=null : uuid
    d_int=7 : int               # defaults
    d_negative=-3 : smallint
    d_string="it's" : varchar(16)
    d_float=0.1 : double
    d_decimal=1.50 : decimal(5,2)
    d_date="2020-02-29" : date
    d_stamp=CURRENT_TIMESTAMP : timestamp
    d_enum="b c" : enum('a','b c')
    index (t_int, t_varchar)
    """


@schema
class Precision(dj.Manual):  # type: ignore[misc]
    definition = """
    # floats whose seventh digit matters
    precision_id : smallint
    ---
    single : float
    both : double
    """


@schema
class Counter(dj.Manual):  # type: ignore[misc]
    definition = """
    # an automatic key, and a child of it
    counter_id : int auto_increment
    ---
    words="" : varchar(20)
    """


@schema
class CounterChild(dj.Manual):  # type: ignore[misc]
    definition = """
    -> Counter
    """


@schema
class Project(dj.Manual):  # type: ignore[misc]
    definition = """
    # a uuid as the key
    project_id : uuid   # the id
    ---
    title : varchar(255)
    unique index (title)
    """

    class Member(dj.Part):  # type: ignore[misc]
        definition = """
        -> master
        -> Animal
        ---
        role="none" : varchar(20)
        """


@schema
class WideKey(dj.Manual):  # type: ignore[misc]
    definition = """
    # text, date and time first in the key
    label : varchar(40)
    day : date
    moment : datetime(6)
    flag : enum('on','off')
    amount : decimal(8,3)
    ---
    value=null : double
    """
