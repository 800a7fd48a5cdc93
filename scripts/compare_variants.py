"""Two variants of a study, paired by seed, with the 95 % t-interval over seeds (dB of PSNR-Y):

python scripts/compare_variants.py studies/distillation "start + response" start
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean

from swinlet.errors import DataError
from swinlet.study.results import read_results
from swinlet.study.student_t import t_interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of the study, or its results.json")
    parser.add_argument("one")
    parser.add_argument("other")
    arguments = parser.parse_args()
    one, other = arguments.one, arguments.other
    try:
        results = read_results(arguments.study)
    except DataError as error:
        parser.error(str(error))
    names = [variant.name for variant in results.variants]
    for name in (one, other):
        if name not in names:
            parser.error(f"{name!r} is no variant of this study: {', '.join(map(repr, names))}")
    for testset in results.testsets:
        runs = {v.variant: {s.seed: s.psnr_y for s in v.seeds} for v in testset.variants}
        pairs = [(runs[one][seed], runs[other][seed]) for seed in runs[one] if seed in runs[other]]
        values = [a - b for a, b in pairs if a is not None and b is not None]
        bounds = t_interval(values)
        text = "no interval" if bounds is None else f"{bounds[0]:+.3f} to {bounds[1]:+.3f}"
        found = f"{fmean(values):+.3f} ({text}, {len(values)} seeds)" if values else "no seed with scores of both"
        sys.stdout.write(f"{testset.name}: {one} - {other}: {found}\n")


if __name__ == "__main__":
    main()
