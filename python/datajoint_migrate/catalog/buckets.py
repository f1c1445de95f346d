"""Stores in buckets: what 2.x writes into their configuration, and what the engine needs of it."""

from __future__ import annotations

import configparser
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datajoint_migrate.catalog.client import location_in_bucket
from datajoint_migrate.catalog.secrecy import reveal
from datajoint_migrate.errors import InvalidArgument

COMMON = {
    "protocol", "location", "subfolding", "partition_pattern", "token_length", "hash_prefix",
    "schema_prefix", "filepath_prefix", "stage",
}  # fmt: skip
# The keys that DataJoint 2.x takes, and those it insists on.
KEYS: dict[str, set[str]] = {
    "file": COMMON,
    "s3": COMMON | {"endpoint", "bucket", "access_key", "secret_key", "secure", "proxy_server"},
    "gcs": COMMON | {"bucket", "token", "project"},
    "azure": COMMON | {"container", "account_name", "account_key", "connection_string"},
}
NEEDS: dict[str, tuple[str, ...]] = {
    "file": ("location",),
    "s3": ("endpoint", "bucket", "location"),
    "gcs": ("bucket", "location"),
    "azure": ("container", "location"),
}
SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}
# Where clients of Google look for another service than its own.
GCS_EMULATOR = "STORAGE_EMULATOR_HOST"


def bucket_of(protocol: str, raw: Mapping[str, Any]) -> str:
    """The bucket, which Azure calls a container; empty if none is named."""
    return str(raw.get("container" if protocol == "azure" else "bucket") or "")


def host_of(protocol: str, raw: Mapping[str, Any]) -> str:
    """By what two services of one protocol are told apart."""
    if protocol == "s3":
        return reveal(raw.get("endpoint") or "").split("://")[-1].split("@")[-1].rstrip("/")
    if protocol == "azure":
        known = _azure(raw)
        return known["endpoint"] or known["account"]
    return ""


def bucket_spec(
    name: str, protocol: str, location: str, raw: Mapping[str, Any], secure: bool
) -> dict[str, Any]:
    """A store in a bucket as the engine takes it; holds secrets.

    Raises `InvalidArgument` for what is missing and for what the clients read in two ways.
    """
    lacks = [key for key in NEEDS[protocol] if key != "location" and not raw.get(key)]
    if lacks:
        raise InvalidArgument(
            f"the store {name!r} lacks {' and '.join(lacks)}",
            hint=f"a store of the protocol {protocol!r} has the keys "
            f"{', '.join(('protocol', *NEEDS[protocol]))}; of these "
            f"{', '.join(sorted(KEYS[protocol] - COMMON - set(NEEDS[protocol])))} may be left out",
        )
    if odd_slashes(location):
        raise InvalidArgument(
            f"the location {location!r} of the {protocol} store {name!r} has slashes that would "
            "become part of the keys",
            hint=f"write {location_in_bucket(location)!r} for 2.x: objects of 0.14.6, which reads "
            "it so, are found there",
        )
    if protocol == "s3":
        service = _s3(raw, secure)
    else:
        service = _gcs(raw) if protocol == "gcs" else _azure_service(raw)
    return {
        "protocol": "bucket",
        "name": name,
        "bucket": bucket_of(protocol, raw),
        "location": location,
        "service": {"kind": protocol, **service},
    }


def odd_slashes(location: str) -> bool:
    """Whether keys would have empty parts or backslashes, which the engine cannot name."""
    return location != "" and ("" in location.split("/") or "\\" in location)


def has_credentials(protocol: str, raw: Mapping[str, Any]) -> bool:
    """Whether there is something to log in with that needs no question to a machine's role."""
    if protocol == "s3":
        return bool(_credentials(raw)[0] or os.environ.get("AWS_ACCESS_KEY_ID"))
    if protocol == "gcs":
        named = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", GCS_EMULATOR)
        return bool(raw.get("token") or any(os.environ.get(word) for word in named))
    known = _azure(raw)
    named = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_CLIENT_ID", "AZURE_STORAGE_SAS_KEY")
    return bool(known["key"] or known["signature"] or any(os.environ.get(word) for word in named))


def _s3(raw: Mapping[str, Any], secure: bool) -> dict[str, Any]:
    endpoint = reveal(raw["endpoint"]).rstrip("/")
    if "://" not in endpoint:
        endpoint = f"{'https' if secure else 'http'}://{endpoint}"
    access, secret, token = _credentials(raw)
    return {
        "endpoint": endpoint,
        "access_key": access,
        "secret_key": secret,
        "token": token,
        "region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        "proxy": raw.get("proxy_server"),
    }


def _credentials(raw: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Those of the spec; else of the profile, unless the environment has some, which wins.

    None of them leaves it to the engine: environment, web identity, role.
    """
    given = [key for key in ("access_key", "secret_key") if raw.get(key)]
    if len(given) == 1:
        (missing,) = {"access_key", "secret_key"} - set(given)
        # With the rest from the environment somebody else would read and write.
        raise InvalidArgument(
            f"the store in the bucket {raw['bucket']!r} is given {given[0]} and no {missing}",
            hint="give both, or neither for those of the environment or a profile",
        )
    if given:
        return reveal(raw["access_key"]), reveal(raw["secret_key"]), None
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return None, None, None
    path = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    profiles = configparser.RawConfigParser()
    profiles.read(Path(path).expanduser())
    profile = os.environ.get("AWS_PROFILE") or "default"
    if not profiles.has_section(profile):
        return None, None, None
    known = profiles[profile]
    access, secret = known.get("aws_access_key_id"), known.get("aws_secret_access_key")
    return access, secret, known.get("aws_session_token")


def _gcs(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`token` in the words of gcsfs, which 2.x gives it to: a file, its contents, or a name."""
    token = raw.get("token")
    endpoint = os.environ.get(GCS_EMULATOR)
    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    anonymous = token == "anon" or (token is None and endpoint is not None)
    text = None
    if isinstance(token, Mapping):
        text = json.dumps(dict(token))
    elif token not in (None, "anon", "google_default", "cloud"):
        try:
            text = Path(reveal(token)).expanduser().read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                "the token of a gcs store is none that can be used here",
                hint="give the path of a file with a service account's key, its contents, 'anon', "
                "'google_default', or nothing",
            ) from error
    if text is not None and '"private_key"' not in text:
        raise InvalidArgument(
            "the credentials of a gcs store are not a service account's key",
            hint="other credentials are taken from GOOGLE_APPLICATION_CREDENTIALS when the store "
            "names none",
        )
    return {"endpoint": endpoint, "credentials": text, "anonymous": anonymous}


def _azure_service(raw: Mapping[str, Any]) -> dict[str, Any]:
    known = _azure(raw)
    if not known["account"]:
        raise InvalidArgument(
            "an azure store lacks account_name",
            hint="give account_name and account_key, or connection_string",
        )
    return {key: value or None for key, value in known.items()}


def _azure(raw: Mapping[str, Any]) -> dict[str, str]:
    """The account, and what a connection string says beyond it."""
    said = dict(
        part.split("=", 1)
        for part in reveal(raw.get("connection_string") or "").split(";")
        if "=" in part
    )
    account = str(raw.get("account_name") or said.get("AccountName") or "")
    endpoint = said.get("BlobEndpoint", "").rstrip("/")
    suffix = said.get("EndpointSuffix", "core.windows.net")
    if not endpoint and account and suffix != "core.windows.net":
        protocol = said.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{protocol}://{account}.blob.{suffix}"
    if endpoint and not account:
        account = endpoint.split("://")[-1].split(".")[0]
    return {
        "account": account,
        "endpoint": endpoint,
        "key": reveal(raw.get("account_key") or said.get("AccountKey") or ""),
        "signature": said.get("SharedAccessSignature", "").lstrip("?"),
    }
