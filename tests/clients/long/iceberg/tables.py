"""Writes and reads an Iceberg table by pyiceberg, whose files are in an object store. Prints what it read, as JSON."""

import json
import os

import pyarrow
from pyiceberg.catalog.sql import SqlCatalog

properties = json.loads(os.environ["PROPERTIES"])
catalog = SqlCatalog("test", uri="sqlite:///:memory:", **properties)
catalog.create_namespace("own")
rows = pyarrow.table({"id": pyarrow.array(range(1_000), pyarrow.int64()), "text": [f"row {n}, ü" for n in range(1_000)]})
table = catalog.create_table("own.rows", schema=rows.schema)
table.append(rows)
table.append(rows.slice(0, 10))
table.delete("id >= 990")
read = catalog.load_table("own.rows").scan().to_arrow()
files = sorted(file.file_path for file in (task.file for task in catalog.load_table("own.rows").scan().plan_files()))
gone = table.io.new_output(f"{properties['warehouse']}/gone")
with gone.create() as stream:
    stream.write(b"x")
existed = gone.exists()
if os.environ["DELETES"] == "yes":
    table.io.delete(gone)
elsewhere = None
try:
    with table.io.new_input(os.environ["ELSEWHERE"]).open() as stream:
        elsewhere = stream.read().decode()
except Exception as error:  # noqa: BLE001, whatever the library makes of a refusal
    elsewhere = type(error).__name__
print(json.dumps({"sum": sum(read["id"].to_pylist()), "rows": read.num_rows, "text": read["text"].to_pylist()[7], "files": len(files),
                  "existed": existed, "exists": gone.exists(), "elsewhere": elsewhere}))
