"""Two variants of a study, paired by seed, with the 95 % t-interval over seeds (dB of PSNR-Y):

python scripts/compare_variants.py studies/distillation "start + response" start
"""

import sys
from pathlib import Path
from statistics import fmean

from swinlet.study.results import read_results
from swinlet.study.student_t import t_interval

folder, one, other = Path(sys.argv[1]), *sys.argv[2:]
for testset in read_results(folder).testsets:
    runs = {v.variant: {s.seed: s.psnr_y for s in v.seeds} for v in testset.variants}
    pairs = [(runs[one][seed], runs[other][seed]) for seed in runs[one] if seed in runs[other]]
    values = [a - b for a, b in pairs if a is not None and b is not None]
    low, high = t_interval(values) or (float("nan"), float("nan"))
    interval = f"{low:+.3f} to {high:+.3f}, {len(values)} seeds"
    sys.stdout.write(f"{testset.name}: {one} - {other}: {fmean(values):+.3f} ({interval})\n")
