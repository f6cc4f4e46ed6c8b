"""The test server itself: what was committed survives kill -9 and a restart, and each test has a database of its own."""

import psycopg

from support.postgresql import PostgresServer


def test_a_killed_server_goes_on_with_what_was_committed(own_postgres: PostgresServer):
    """The crash tests of the store rest on this."""
    url = own_postgres.url(own_postgres.new_database())
    with psycopg.connect(url) as connection:
        connection.execute("create table t (a int)")
        connection.execute("insert into t values (7)")
    own_postgres.kill()
    own_postgres.start()

    with psycopg.connect(url) as connection:
        assert [(7,)] == connection.execute("select a from t").fetchall()


def test_a_database_of_a_test_is_empty(postgres_url: str):
    """Nothing of another test is in it."""
    with psycopg.connect(postgres_url) as connection:
        assert [(0,)] == connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchall()
