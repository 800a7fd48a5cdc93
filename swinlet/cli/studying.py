"""``swinlet study``: what helps, told from luck."""

from pathlib import Path
from typing import Annotated

import typer

from swinlet.cli.common import INTERRUPTED, report_problems, user_errors
from swinlet.cli.parameters import Download
from swinlet.utils.console import LOGGER


def study_command(
    study_file: Annotated[Path, typer.Argument(help="Study file (JSON with comments).", metavar="STUDY.json")],
    shard: Annotated[
        str, typer.Option("--shard", help="Train only a part of the runs, the 2nd of 8.", metavar="NUMBER/COUNT")
    ] = "1/1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all, and show the runs; write nothing.")] = False,
    results_only: Annotated[
        bool, typer.Option("--results-only", help="Train nothing; score what is complete.")
    ] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Train the runs as trials of Ray Tune.")] = False,
    cpus_per_run: Annotated[float, typer.Option(help="Processors for each, with --ray.", min=0.01)] = 1,
    tried: Annotated[
        list[str] | None,
        typer.Option("--try", help="A distillation type that is a variant, too; repeat for more.", metavar="TYPE"),
    ] = None,
    download: Download = False,
) -> None:
    """Train variants with several seeds, and tell what their differences are worth.

    Runs that are finished are skipped, others go on where they were. Exit code 2 if a run failed or could not be
    scored; the others are, all the same.
    """
    with user_errors():
        from swinlet.study.plan import parse_shard
        from swinlet.study.ray_tune import RayTune
        from swinlet.study.run import OneByOne, StudyRunner
        from swinlet.study.scores import Scorer
        from swinlet.study.spec import load_study
        from swinlet.study.tables import as_text, plan_text
        from swinlet.study.training import StudyStoppedError, problems_of

        runner = StudyRunner(load_study(study_file, tried or []), parse_shard(shard))
        launcher = RayTune(runner.study.out, cpus_per_run) if ray else OneByOne()
        scorer = Scorer(runner.study, download=download)
        if dry_run:
            typer.echo(plan_text(runner.plan()))
            report_problems(scorer.problems)
            return
        problems: list[str] = []
        try:
            if not results_only:
                report_problems(scorer.problems)
                problems = problems_of(*runner.train(launcher))
            results = runner.results(scorer)
        except (StudyStoppedError, KeyboardInterrupt) as error:
            LOGGER.info("study stopped; what is saved stays, start the same command again to go on")
            raise typer.Exit(error.code if isinstance(error, StudyStoppedError) else INTERRUPTED) from error
        typer.echo(as_text(results))
        report_problems([*problems, *results.problems])
