"""Whether tables, constraints, indexes, triggers and functions in a PostgreSQL book are those of the schema, and nothing is beside them.

PostgreSQL keeps no statement as it was written, so the two cannot be compared as words. What should be there is made once more, in a schema
of its own inside a transaction that is rolled back, and both are described by the same queries of the same server.
"""

import secrets

import psycopg

from hanbit.db import postgres_link
from hanbit.db.postgres import make_tables
from hanbit.db.postgres_link import Lost
from hanbit.db.rows import Connection
from hanbit.kernel.errors import Unavailable

Shape = dict[tuple[str, str], str]
"""Kind and name → what it is."""


def describe(connection: Connection) -> Shape:
    """Everything in the schema that comes first on this connection's path."""
    here = f"{connection.execute('SELECT quote_ident(current_schema())').fetchall()[0][0]}."
    rows = (row for query in _QUERIES for row in connection.execute(query).fetchall())
    return {(str(kind), str(name).replace(here, "")): str(text).replace(here, "") for kind, name, text in rows}


def expected(url: str, version: str) -> Shape:
    """What a book of today's schema is on a server of this version; Unavailable where this role may not make it once more."""
    found = _EXPECTED.get(version)
    if found is None:
        found = _EXPECTED[version] = _made_once_more(url)
    return found


_EXPECTED: dict[str, Shape] = {}
"""The same in every database of a server of that version."""


def _made_once_more(url: str) -> Shape:
    link = postgres_link.connect(url, wait_s=None, session={})
    try:
        link.command("BEGIN")
        name = f"hanbit_reference_{secrets.token_hex(8)}"
        link.command(f"CREATE SCHEMA {name}")
        link.command(f"SET LOCAL search_path TO {name}")
        make_tables(link)
        return describe(link)
    except (Lost, psycopg.Error) as error:
        raise Unavailable(f"the tables cannot be held against the schema: {error}") from error
    finally:
        link.close()


_QUERIES = (
    """
    SELECT 'table', c.relname, concat_ws(' ', c.relkind, c.relpersistence, c.relrowsecurity, c.relispartition, c.relhassubclass,
    (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated, a.attidentity,
    l.collname, pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum)
    FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
    FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind NOT IN ('i', 'I', 't')
    """,
    """
    SELECT 'constraint', c.relname || '.' || o.conname, concat_ws(' ', pg_get_constraintdef(o.oid), o.convalidated)
    FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
    WHERE o.connamespace = current_schema()::regnamespace AND o.contype IN ('c', 'f', 'p', 'u', 'x')
    """,
    """
    SELECT 'index', c.relname, concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisready)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('i', 'I')
    """,
    """
    SELECT 'trigger', c.relname || '.' || t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal
    """,
    """
    SELECT 'rule', c.relname || '.' || r.rulename, pg_get_ruledef(r.oid)
    FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE c.relnamespace = current_schema()::regnamespace
    """,
    """
    SELECT 'policy', c.relname || '.' || p.polname, p.polcmd::text
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = current_schema()::regnamespace
    """,
    """
    SELECT 'function', p.oid::regprocedure::text, ''
    FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace AND p.prokind NOT IN ('f', 'p')
    UNION ALL
    SELECT 'function', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', pg_get_functiondef(p.oid)
    FROM pg_proc p WHERE p.pronamespace = current_schema()::regnamespace AND p.prokind IN ('f', 'p')
    """,
)
"""Text, names and oids that another schema changes are left out."""
