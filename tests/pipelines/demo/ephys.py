"""Schema `ephys` of the demonstration: recordings in a store, and what is computed (0.14.6)."""

from __future__ import annotations

from typing import Any

import datajoint as dj
import numpy as np
from lab import Session  # noqa: F401

schema = dj.Schema()


@schema
class Probe(dj.Lookup):  # type: ignore[misc]
    definition = """
    probe : varchar(16)
    ---
    channels : tinyint unsigned
    """
    contents = (("A1x4", 4), ("A2x2", 2))


@schema
class Recording(dj.Manual):  # type: ignore[misc]
    definition = """
    # a key from the other schema
    -> Session
    -> Probe
    ---
    gain : float
    signal : blob@raw               # the array lies in the store
    protocol=null : attach@raw
    video=null : filepath@raw
    """

    class Channel(dj.Part):  # type: ignore[misc]
        definition = """
        -> master
        channel : tinyint unsigned
        ---
        impedance : float
        waveform : blob@raw
        """


@schema
class Spectrum(dj.Computed):  # type: ignore[misc]
    definition = """
    -> Recording
    ---
    peak : float
    mean_power : double
    power : longblob
    """

    def make(self, key: dict[str, Any]) -> None:
        signal = (Recording & key).fetch1("signal")
        power = np.abs(np.fft.rfft(signal, axis=1)) ** 2
        row = dict(key, peak=float(power.max()), mean_power=float(power.mean()))
        self.insert1(dict(row, power=power.mean(axis=0)))
