"""Does the demo show what it promises? Reads the comparison that `make demo` wrote."""

import json
import sys
from pathlib import Path

lines = Path("superresolution/demo/metrics.jsonl").read_text(encoding="utf-8").splitlines()
rows = [row for row in map(json.loads, lines) if row["type"] == "comparison"][-3:]
y = {row["weights"]: row["mean"]["psnr_y"] for row in rows}
sys.exit(not y["bicubic"] + 0.3 < y["E"] < y["Teacher"] and f"the demo's order is wrong: {y}")
