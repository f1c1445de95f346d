"""From bucket to bucket of one S3 service the service copies, and what it copied is proved."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from datajoint_migrate import copy_store
from datajoint_migrate.catalog import stores
from datajoint_migrate.limits import LIMITS
from faulty import Fault, Faulty, Rule, faulty
from s3 import S3, Bucket

CONTENTS = {
    "a/b.bin": b"1" * 5000,
    "a/ü n.'x' 猴.dat": b"2" * 5000,
    "a/100% #1?&=+~.tar.gz": b"3" * 5000,
    "empty": b"",
    "large": os.urandom(12 << 20),
}
# The least a part may have but the last; in place of the 5 GiB that a service copies at once.
COPY_MAX = 5 << 20
PARTS = 3


@dataclass(frozen=True)
class Pair:
    """Two buckets of one service."""

    source: Bucket
    target: Bucket
    # What other tests have begun and not ended in the same service.
    begun: frozenset[Path]

    def uploads(self) -> frozenset[Path]:
        """Uploads that were begun here and not ended."""
        return _uploads(self.source.service) - self.begun

    def copy(self, proxy: Faulty, verify: bool = True) -> dict[str, Any]:
        """Copy the one to the other through a proxy."""
        here = self.source.spec("raw", endpoint=proxy.endpoint)
        there = self.target.spec("new/raw", endpoint=proxy.endpoint)
        return copy_store(here, there, verify=verify)

    def is_equal(self) -> bool:
        """Whether every object arrived, and nothing else."""
        return self.target.objects() == {f"new/raw/{key}": CONTENTS[key] for key in CONTENTS}


def _uploads(service: S3) -> frozenset[Path]:
    return frozenset(service.root.glob(".upload*"))


@pytest.fixture
def pair(s3_server: S3, request: pytest.FixtureRequest) -> Pair:
    source = s3_server.make_bucket(request.node.name + "/from")
    for key, data in CONTENTS.items():
        file = source.folder / "raw" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    target = s3_server.make_bucket(request.node.name + "/to")
    return Pair(source, target, _uploads(s3_server))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of more than `COPY_MAX` are too large to be copied at once."""
    whole = stores.bucket_spec

    def lowered(*words: Any) -> dict[str, Any]:
        spec = whole(*words)
        return {**spec, "service": {**spec["service"], "copy_max": COPY_MAX}}

    monkeypatch.setattr(stores, "bucket_spec", lowered)


def copies(proxy: Faulty, name: str = "") -> int:
    return sum(
        count
        for (method, path), count in proxy.seen.items()
        if method == "COPY" and path.endswith(name)
    )


def on_copies(fault: Fault, times: int = 1_000) -> Rule:
    """A rule: the first `times` attempts to copy each object meet this fault."""
    return lambda method, before: fault if method == "COPY" and before < times else None


@pytest.mark.parametrize("verify", [True, False])
def test_no_contents_pass_here(pair: Pair, verify: bool) -> None:
    with faulty(pair.source.service.endpoint, lambda *_: None) as proxy:
        done = pair.copy(proxy, verify)
    assert (done["files_copied"], done["errors"]) == (len(CONTENTS), [])
    assert pair.is_equal()
    assert proxy.bytes < 100
    assert copies(proxy) == len(CONTENTS) - verify  # an empty object has no first byte to ask for


def test_within_one_bucket_no_contents_pass_either(pair: Pair) -> None:
    one = replace(pair, target=pair.source)
    with faulty(pair.source.service.endpoint, lambda *_: None) as proxy:
        assert one.copy(proxy)["files_copied"] == len(CONTENTS)
    assert proxy.bytes < 100
    assert {key.removeprefix("new/"): data for key, data in pair.source.objects().items()} == {
        f"raw/{key}": data for key, data in CONTENTS.items()
    }


@pytest.mark.parametrize(
    ("fault", "verify"),
    [
        ("503", True),
        ("an error in a 200", True),
        ("an error in a 200", False),
        ("cut the request", True),
        ("cut the answer", True),
    ],
)
def test_a_copy_that_fails_is_asked_for_again(pair: Pair, fault: Any, verify: bool) -> None:
    with faulty(pair.source.service.endpoint, on_copies(fault, times=1)) as proxy:
        done = pair.copy(proxy, verify)
    assert (done["files_copied"], done["errors"]) == (len(CONTENTS), [])
    assert pair.is_equal()
    assert proxy.faults >= len(CONTENTS) - 1


@pytest.mark.parametrize("fault", ["a lie", "403"])
def test_what_the_service_does_not_prove_or_refuses_passes_here(pair: Pair, fault: Any) -> None:
    with faulty(pair.source.service.endpoint, on_copies(fault)) as proxy:
        done = pair.copy(proxy)
    assert (done["files_copied"], done["errors"]) == (len(CONTENTS), [])
    assert pair.is_equal()
    assert proxy.bytes > len(CONTENTS["large"])


def test_a_service_that_keeps_failing_ends_the_run(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMITS, "away_seconds", 2)
    rule: Callable[[str, int], Fault] = on_copies("an error in a 200")
    with (
        faulty(pair.source.service.endpoint, rule) as proxy,
        pytest.raises(Exception, match="InternalError"),
    ):
        pair.copy(proxy, verify=False)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.usefixtures("small_parts")
def test_what_is_too_large_for_one_copy_is_copied_in_parts(pair: Pair, verify: bool) -> None:
    with faulty(pair.source.service.endpoint, lambda *_: None) as proxy:
        done = pair.copy(proxy, verify)
    assert (done["files_copied"], done["errors"]) == (len(CONTENTS), [])
    assert pair.is_equal()
    assert copies(proxy, "/large") == PARTS
    assert copies(proxy) == len(CONTENTS) - verify + PARTS - 1
    assert proxy.bytes < 100


@pytest.mark.parametrize("fault", ["503", "an error in a 200", "cut the request", "cut the answer"])
@pytest.mark.usefixtures("small_parts")
def test_a_part_that_fails_leaves_nothing_behind_and_is_asked_for_again(
    pair: Pair, fault: Any
) -> None:

    def rule(method: str, before: int) -> Fault:
        return fault if (method, before) == ("COPY", 1) else None

    with faulty(pair.source.service.endpoint, rule) as proxy:
        done = pair.copy(proxy)
    assert (done["files_copied"], done["errors"], proxy.faults) == (len(CONTENTS), [], 1)
    assert pair.is_equal()
    assert copies(proxy, "/large") == 2 * PARTS
    assert proxy.bytes < 100
    assert not pair.uploads()


@pytest.mark.usefixtures("small_parts")
def test_parts_that_the_service_refuses_pass_here(pair: Pair) -> None:
    with faulty(pair.source.service.endpoint, on_copies("403")) as proxy:
        done = pair.copy(proxy)
    assert (done["files_copied"], done["errors"]) == (len(CONTENTS), [])
    assert pair.is_equal()
    assert proxy.bytes > len(CONTENTS["large"])
    assert not pair.uploads()
