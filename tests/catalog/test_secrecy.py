"""What is secret is a type, and no plan, record, repr, pickle, message or argument shows it."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from datajoint_migrate import InvalidArgument, copy_store, migrate_config
from datajoint_migrate.catalog.secrecy import (
    Secret,
    holds_secret,
    is_secret,
    masked,
    reveal,
    sealed,
)
from datajoint_migrate.catalog.server import Server, resolve
from datajoint_migrate.catalog.stores import dest_stores, source_stores
from datajoint_migrate.console.record import Record
from datajoint_migrate.console.settings import load, write

HUSH = "Planted-Hush-31"
STORES: dict[str, dict[str, Any]] = {
    "far": {"protocol": "s3", "endpoint": "h:9000", "bucket": "b", "location": "x"},
    "sky": {"protocol": "gcs", "bucket": "b", "location": "x"},
    "blue": {"protocol": "azure", "container": "c", "location": "x", "account_name": "lab"},
    "odd": {"protocol": "webdav", "location": "x"},
}
KEYS: dict[str, dict[str, Any]] = {
    "far": {"access_key": HUSH, "secret_key": HUSH, "session_token": HUSH},
    "sky": {"token": {"type": "service_account", "private_key": HUSH}},
    "blue": {
        "account_key": HUSH,
        "connection_string": f"AccountName=lab;AccountKey={HUSH}",
        "sas_token": f"sv=1&sig={HUSH}",
    },
    "odd": {
        "apiKey": HUSH,
        "bearer-token": HUSH,
        "passwd": HUSH,
        "clientSecret": HUSH,
        "url": f"https://me:{HUSH}@h/x",
        "proxy_server": f"http://h/?password={HUSH}",
        "nested": {"deeper": {"password": HUSH}},
    },
}
ALL = {name: STORES[name] | KEYS[name] for name in STORES}
PROGRAM = [sys.executable, "-c", "from datajoint_migrate.console.cli import main; main()"]


@pytest.mark.parametrize("name", [key for keys in KEYS.values() for key in keys if key != "url"])
def test_what_looks_like_a_secret_is_one(name: str) -> None:
    assert is_secret(name) or any(holds_secret(keys.get(name)) for keys in KEYS.values())


@pytest.mark.parametrize(
    "name",
    ["protocol", "location", "token_length", "partition_pattern", "hash_prefix", "schema_prefix",
     "subfolding", "stage", "secure", "endpoint", "bucket", "project", "account_name", "container",
     "proxy_server", "host", "port", "user", "ssl_ca", "ssl_cert", "ssl_key", "ssl_mode",
     "unix_socket", "server_public_key_path", "read_timeout", "trust_server", "keypoints"],
)  # fmt: skip
def test_what_is_no_secret_is_not_taken_for_one(name: str) -> None:
    assert not is_secret(name)


def test_a_secret_shows_itself_to_nobody_and_is_itself_to_whoever_uses_it() -> None:
    secret = Secret(HUSH)
    for said in (
        repr(secret),
        str(secret),
        f"{secret}",
        "{}".format(*[secret]),
        repr({"a": [secret]}),
    ):
        assert HUSH not in said
    assert secret == HUSH
    assert reveal(secret) == HUSH
    assert secret.encode() == HUSH.encode()
    assert reveal(pickle.loads(pickle.dumps(secret))) == HUSH
    server = resolve(f"mysql://u:{HUSH}@h/")
    assert HUSH not in repr(server) + str(server) + repr(server.spec())
    assert HUSH not in repr(Server(password=HUSH))


def test_a_plan_holds_no_secret_and_is_its_owners(tmp_path: Path) -> None:
    given = tmp_path / "lab.toml"
    lines = [f'[source]\nhost = "h"\nuser = "u"\npasswd = "{HUSH}"\nssl_key = "/k.pem"']
    lines += [f'[destination]\nhost = "d"\npassword = "{HUSH}"']
    for side in ("source", "destination"):
        for name, spec in ALL.items():
            lines += [f"[stores.{side}.{name}]"]
            lines += [f"{json.dumps(key)} = {_toml(value)}" for key, value in spec.items()]
    given.write_text("\n".join(lines))
    settings = load(given)
    assert HUSH not in repr(settings)
    plan = tmp_path / "migration.toml"
    old = os.umask(0)
    try:
        write(plan, {"lab": "lab_v20"}, {}, settings)
    finally:
        os.umask(old)
    text = plan.read_text()
    assert HUSH not in text
    assert stat.S_IMODE(plan.stat().st_mode) == 0o600
    # What is left is a plan, and says what is not written.
    said = tomllib.loads(text)
    assert said["source"] == {"host": "h", "user": "u", "ssl_key": "/k.pem"}
    assert said["stores"]["source"] == STORES
    assert text.count("is not written here") == 2 * sum(len(keys) for keys in KEYS.values())
    assert load(plan).schemas == {"lab": "lab_v20"}
    link = tmp_path / "link.toml"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidArgument, match="is there already"):
        write(link, {}, {}, settings)
    assert not (tmp_path / "elsewhere").exists()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def test_stores_show_no_secret_and_other_processes_get_what_they_need(tmp_path: Path) -> None:
    for stores in (source_stores(ALL), dest_stores(ALL)):
        for name, store in stores.items():
            assert HUSH not in repr(store) + repr(store.raw) + store.url + repr(store.place)
            sent = pickle.dumps(store)
            # A worker logs in with these; nothing knows what to do with the others.
            assert (HUSH.encode() in sent) == (name != "odd" or "proxy_server" in store.raw)
    far = dest_stores({"far": ALL["far"]})["far"].spec()
    assert reveal(far["service"]["secret_key"]) == HUSH
    assert HUSH not in repr(far["service"]["endpoint"])
    (tmp_path / "folder").mkdir()
    dest = {"protocol": "file", "location": str(tmp_path / "folder")}
    with pytest.raises(Exception) as refused:  # noqa: PT011  (whatever it is, it says no secret)
        copy_store({**ALL["far"], "endpoint": "127.0.0.1:9"}, dest)
    assert HUSH not in str(refused.value) + repr(refused.value)


def test_a_record_holds_no_secret(tmp_path: Path) -> None:
    said = {"name": f"s3://me:{HUSH}@b/x", "stores": sealed(ALL)}
    with Record(tmp_path / "r.jsonl", said=said) as record:
        record({"event": "note", "note": f"see mysql://u:{HUSH}@h:1/ and ?password={HUSH}&x=1"})
        record.result({"server": resolve(f"mysql://u:{HUSH}@h/"), "secret": Secret(HUSH)})
    text = (tmp_path / "r.jsonl").read_text()
    assert HUSH not in text
    assert "x=1" in text
    assert stat.S_IMODE((tmp_path / "r.jsonl").stat().st_mode) & 0o077 == 0


URLS = [
    f"mysql://u:{HUSH}@h/",
    f"mysql://u@h/?password={HUSH}",
    f"mysql://u@h/?ssl-mode=required&passwd={HUSH}",
    f"mysql://h/?user=u&PASSWORD={HUSH}",
    f"mysql://u:12/{HUSH}@h/",
    f"mysql://u:[{HUSH}@h/",
]
COMMANDS = [("run", "plan.toml"), ("cutover", "plan.toml", "--execute"), ("backup", "a", "b")]


@pytest.mark.parametrize(
    ("words", "url"),
    [(["inspect", "--json"], url) for url in URLS] + [([*said], URLS[1]) for said in COMMANDS],
)
def test_a_password_in_an_argument_is_refused_and_not_repeated(
    words: list[str], url: str, tmp_path: Path
) -> None:
    (tmp_path / "plan.toml").write_text("[schemas]\na = 'b'\n")
    call = [*PROGRAM, *words, "--connection", url]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert HUSH not in done.stdout + done.stderr
    assert "DJ_PASS" in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.jsonl"))


def test_arguments_that_are_printed_again_are_masked() -> None:
    for said in (
        f"--connection=mysql://u:{HUSH}@h/x",
        f"mysql://u@h/?ssl-mode=required&password={HUSH}",
        f"mysql://:{HUSH}@h",
        f"BlobEndpoint=https://h;AccountKey={HUSH};x=y",
        f"https://h/b?sv=1&sig={HUSH}",
    ):
        assert HUSH not in masked(said)
    for said in ("a = 5 and key=3", "mysql://u@h:3306/?ssl-mode=required", "http://h/a:b@c"):
        assert masked(said).startswith(said[:14])
    assert masked("size > 5 and key = 3") == "size > 5 and key = 3"


def test_a_configuration_of_2x_gets_what_it_knows_and_secrets_as_files(tmp_path: Path) -> None:
    source = tmp_path / "dj_local_conf.json"
    stores = {
        "raw": {"protocol": "file", "location": str(tmp_path), "stage": str(tmp_path / "stage")},
        "far": STORES["far"] | {"access_key": HUSH, "secret_key": HUSH, "session_token": HUSH},
        "way": STORES["far"] | {"proxy_server": f"http://u:{HUSH}@proxy:3128", "secure": True},
        "odd": ALL["odd"],
    }
    source.write_text(json.dumps({"database.user": "u", "stores": stores}))
    done = migrate_config(source, tmp_path / "new", execute=True)
    assert HUSH not in json.dumps(done)
    assert HUSH not in (tmp_path / "new" / "datajoint.json").read_text()
    made = json.loads((tmp_path / "new" / "datajoint.json").read_text())["stores"]
    # 2.x would keep the path of the staged file, and speak https.
    assert made["raw"] == {"protocol": "file", "location": str(tmp_path)}
    assert made["far"] == STORES["far"] | {"secure": False}
    assert made["way"]["secure"] is True
    secrets = tmp_path / "new" / ".secrets"
    assert (secrets / "stores.far.secret_key").read_text() == HUSH
    assert (secrets / "stores.odd.apiKey").read_text() == HUSH
    assert not (secrets / "stores.far.session_token").exists()
    assert any(said.startswith("stores.raw.stage: ") for said in done["left"])
    assert any(said.startswith("stores.far.session_token: ") for said in done["left"])
