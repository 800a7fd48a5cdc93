"""Does the demo show what it promises? Reads what `make demo` wrote."""

import json
import sys
from pathlib import Path

run = Path("superresolution/demo")
rows = [row for row in map(json.loads, (run / "metrics.jsonl").open(encoding="utf-8")) if row["type"] == "comparison"]
y = {row["weights"]: row["mean"]["psnr_y"] for row in rows[-3:]}
if not y["bicubic"] + 0.3 < y["E"] < y["Teacher"]:
    sys.exit(f"the demo's order is wrong: {y}")
report = (run / "report.html").read_text(encoding="utf-8")
if report.count("<svg") < 8 or report.count("<img") < 20 or f"{y['E']:.2f}" not in report:
    sys.exit("the demo's report is incomplete")
