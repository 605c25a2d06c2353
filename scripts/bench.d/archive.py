"""The turns of scripts/bench-archive, and their summary.

    archive.py EXAMPLE ROWS RUNS         all of it
    archive.py --write WAY FILE LEVEL    one turn of pyarrow, with the rows of FILE
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

WAYS = ["tripline", "pyarrow rows", "pyarrow arrow"]
LEVEL = 3  # ZSTD_LEVEL of src/archive/parquet/schema.rs


def memory(name):
    with open("/proc/self/status") as status:
        return int(re.search(rf"^{name}:\s+(\d+)", status.read(), re.M)[1])


def write(way, path, level):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path, partitioning=None)
    schema = table.schema
    expected = table.num_rows
    rows = None
    if way == "pyarrow rows":
        rows = table.to_pylist()
        del table
        pa.default_memory_pool().release_unused()
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak begins anew
    before = memory("VmRSS")
    start = time.perf_counter()
    if rows is not None:
        table = pa.Table.from_pylist(rows, schema)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=level,
        store_decimal_as_integer=True,
        write_page_index=True,
    )
    data = sink.getvalue()
    millis = (time.perf_counter() - start) * 1000
    peak = memory("VmHWM") - before
    written = pq.ParquetFile(pa.BufferReader(data)).metadata.num_rows
    assert written == expected, f"{written} rows of {expected}"
    print(f"rows={written} bytes={data.size} millis={millis:.0f} peak_kib={peak}")


def turn(way, example, rows, path):
    if way == "tripline":
        command = [example, rows, path]
    else:
        command = [sys.executable, __file__, "--write", way, path, str(LEVEL)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", out)}


def bench(example, rows, runs):
    turns = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(int(runs)):
            for way in WAYS:
                turns[way].append(turn(way, example, rows, os.path.join(folder, "orders.parquet")))

    def median(way, key):
        return statistics.median(found[key] for found in turns[way])

    print(f"{'':14} {'rows/s':>11} {'(worst':>10} {'best)':>10} {'bytes/row':>10} {'peak MiB':>9} {'time':>7}")
    ours = median("tripline", "millis")
    for way in WAYS:
        speeds = sorted(found["rows"] * 1000 // max(found["millis"], 1) for found in turns[way])
        print(
            f"{way:14} {statistics.median(speeds):>11,.0f} {speeds[0]:>10,} {speeds[-1]:>10,}"
            f" {median(way, 'bytes') / median(way, 'rows'):>10.2f} {median(way, 'peak_kib') / 1024:>9.0f}"
            f" {median(way, 'millis') / ours:>6.2f}x"
        )


if sys.argv[1] == "--write":
    write(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    bench(*sys.argv[1:])
