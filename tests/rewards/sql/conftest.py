"""Databases for the tests of the SQL reward: files, and a server where one can be started."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rewards.sql.outcome import Limits
from rewards.sql.sqlite_database import SqliteDatabase
from tests.rewards.sql.postgres_server import missing, running_server
from tests.rewards.sql.sql_fixture import CASE_FOLDER, make_database

DEFOG = CASE_FOLDER.parent / "defog_sql"


@pytest.fixture
def shop_folder(tmp_path: Path) -> Path:
    make_database(tmp_path / "shop.sqlite")
    return tmp_path


@pytest.fixture
def shop(shop_folder: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase.from_file(shop_folder / "shop.sqlite", Limits(max_steps=2_000_000))
    yield database
    database.close()


@dataclass(frozen=True)
class Server:
    """URLs of a running server: the superuser's and the read-only role's."""

    admin_url: str
    reader_url: str


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server with the databases shop (two copies), academic and car_dealership."""
    for library in ("sqlalchemy", "psycopg"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f'{library} is not installed; pip install "ramify[sql]"')
    if problem := missing():
        pytest.skip(problem)
    from sqlalchemy.engine import make_url

    from rewards.sql.postgres_setup import Reader, create_reader, load_database, make_copies

    reader = Reader(password="secret")
    with running_server() as admin_url:
        create_reader(admin_url, reader)
        fixture = (CASE_FOLDER / "sql_fixture.sql").read_text("utf-8")
        load_database(admin_url, "shop", fixture, reader)
        for name in ("academic", "car_dealership"):
            script = (DEFOG / f"{name}.postgres.sql").read_text("utf-8")
            load_database(admin_url, name, script, reader)
        make_copies(admin_url, "shop", 2, reader)
        url = make_url(admin_url).set(username=reader.name, password=reader.password, database=None)
        yield Server(admin_url, url.render_as_string(hide_password=False))
