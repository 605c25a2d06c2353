"""Parquet files as others read them. Everything is printed as JSON, every value as text and NULL as null.

readers.py duckdb          runs the SQL on standard input by DuckDB; prints its rows
readers.py arrow FOLDER    reads a folder of date=… folders as pyarrow's dataset; prints its columns, types and rows
readers.py watch FOLDER    reads the folder again and again, by a bare pattern, until standard input ends; prints how often
                           it looked and what it saw last, or ends with 1 and what was wrong
"""

import json
import select
import sys


def main():
    what = sys.argv[1]
    if what == "duckdb":
        print(json.dumps(ask(sys.stdin.read())))
    elif what == "arrow":
        print(json.dumps(arrow(sys.argv[2])))
    elif what == "watch":
        watch(sys.argv[2])
    else:
        sys.exit(f"unknown: {what}")


def connect():
    import duckdb

    connection = duckdb.connect()
    # Nothing from the network; and times look as psql shows them with its time zone set likewise.
    connection.execute("SET autoinstall_known_extensions = false; SET TimeZone = 'UTC'")
    return connection


def ask(sql):
    rows = connect().sql(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({sql})")
    return [] if rows is None else rows.fetchall()


def arrow(folder):
    import pyarrow
    from pyarrow import dataset

    # Left to itself, a dataset knows the columns of its first file only.
    first = dataset.dataset(folder, format="parquet", partitioning="hive")
    schemas = [first.schema] + [fragment.physical_schema for fragment in first.get_fragments()]
    schema = pyarrow.unify_schemas(schemas, promote_options="permissive")
    whole = dataset.dataset(folder, format="parquet", partitioning="hive", schema=schema)
    table = whole.to_table()
    columns = [(field.name, str(field.type)) for field in table.schema]
    return {"columns": columns, "rows": [[text(value) for value in row.values()] for row in table.to_pylist()]}


def text(value):
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def watch(folder):
    import glob

    connection = connect()
    pattern = f"{folder}/**/*.parquet"
    quoted = pattern.replace("'", "''")
    # The hash makes it read every column.
    sql = f"""
        SELECT count(*), count(DISTINCT (files.partition, files."offset")), bit_xor(hash(files))
        FROM read_parquet('{quoted}', union_by_name = true) AS files
    """
    looks = rows = 0
    # As fast as it can, but for a breath in which to hear that it is enough.
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        if not glob.glob(pattern, recursive=True):
            continue
        try:
            seen, different, _ = connection.execute(sql).fetchone()
        except Exception as error:
            fail(looks, f"it cannot be read: {error}")
        if seen != different:
            twice = f"""
                SELECT files.partition, files."offset", list(filename)
                FROM read_parquet('{quoted}', union_by_name = true, filename = true) AS files
                GROUP BY ALL HAVING count(*) > 1 LIMIT 3
            """
            fail(looks, f"{seen} rows at {different} offsets; looked at again: {connection.execute(twice).fetchall()}")
        if seen < rows:
            fail(looks, f"{seen} rows, and {rows} before")
        looks, rows = looks + 1, seen
    print(json.dumps({"looks": looks, "rows": rows}))


def fail(looks, problem):
    print(json.dumps({"looks": looks, "problem": problem}))
    sys.exit(1)


main()
