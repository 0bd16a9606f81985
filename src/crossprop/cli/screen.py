"""``crossprop screen``: enumerate compositions, predict, filter and rank them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer import Option

from crossprop.cli.fit import Amounts, FormulaColumn, Sheet
from crossprop.errors import ScreeningError

app = typer.Typer()
_ASK_BEYOND = 10_000_000
_SHOWN = 10
_PIPE_WIDTH = 160  # characters of a line where no terminal says how wide it is


@app.command()
def screen(
    property_: Annotated[list[str], Option("--property", "-p", help="Names or targets, by commas.")],
    elements: Annotated[list[str] | None, Option("--elements", "-e", help="Fe,Co,halogens; all.")] = None,
    input_: Annotated[Path | None, Option("--input", help="File with formulas to screen instead.")] = None,
    formula_column: FormulaColumn = None,
    sheet: Sheet = None,
    amounts: Amounts = None,
    where: Annotated[str | None, Option(help="Condition: 'bulk_modulus > 200 and Pb == 0'.")] = None,
    maximize: Annotated[list[str] | None, Option(help="Rank by these, more is better; repeatable.")] = None,
    minimize: Annotated[list[str] | None, Option(help="Rank by these, less is better; repeatable.")] = None,
    rank: Annotated[str | None, Option(help="value, ei (expected improvement) or pareto (front).")] = None,
    best: Annotated[float | None, Option(help="Value to beat, with --rank ei.", show_default="the best known")] = None,
    top: Annotated[int, Option(help="Rows of top.csv.")] = 100,
    per_system: Annotated[int | None, Option(help="Most rows of one chemical system in top.csv.")] = None,
    out: Annotated[Path, Option(help="Folder of the results; continued if interrupted.")] = Path("screening"),
    min_elements: Annotated[int, Option(help="Fewest elements of a composition.")] = 2,
    max_elements: Annotated[int, Option(help="Most elements of a composition.")] = 3,
    max_atoms: Annotated[int | None, Option(help="Largest sum of amounts.", show_default="10")] = None,
    max_amount: Annotated[int | None, Option(help="Largest amount of one element.")] = None,
    fractions: Annotated[float | None, Option(help="Step of a grid of alloys (0.05), not formulas.")] = None,
    must_contain: Annotated[list[str] | None, Option(help="Elements that must be there.")] = None,
    exclude: Annotated[list[str] | None, Option(help="Elements and groups to leave out.")] = None,
    charge_balanced: Annotated[bool, Option("--charge-balanced/--all", help="Neutral by smact.")] = False,
    oxidation_states: Annotated[str, Option(help="icsd24, icsd16, smact14, pymatgen_sp, wiki.")] = "icsd24",
    pauling: Annotated[bool, Option(help="With --charge-balanced: anions are more electronegative.")] = True,
    alloys: Annotated[bool, Option("--alloys", help="With --charge-balanced: keep alloys, too.")] = False,
    mixed_valence: Annotated[bool, Option("--mixed-valence", help="Several states (Fe3O4).")] = False,
    novel: Annotated[bool, Option("--novel", help="Leave out what is in the models' data.")] = False,
    in_domain: Annotated[bool, Option("--in-domain", help="Only what is in the training domain.")] = False,
    model: Annotated[list[str] | None, Option(help="NAME=FOLDER or NAME=REGISTERED; repeatable.")] = None,
    alias: Annotated[str, Option(help="Version of registered models.")] = "champion",
    executor: Annotated[str, Option(help="local: threads; ray: workers of a Ray cluster.")] = "local",
    workers: Annotated[int, Option(help="Threads or workers; 0: one for every core.")] = 0,
    memory: Annotated[float | None, Option(help="Most memory, in GiB.", show_default="half of what is free")] = None,
    batch: Annotated[int, Option(help="Compositions predicted at a time by a worker.")] = 2048,
    yes: Annotated[bool, Option("--yes", "-y", help="Screen more than 10 million without asking.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Count, estimate the time, and stop.")] = False,
) -> None:
    """Enumerate compositions, predict properties, keep what meets a condition, and rank it.

    crossprop screen --elements Fe,Co,Al --max-elements 3 --property deltae,bulkmoduluskv --where
    "bulkmoduluskv > 200" --top 100
    """
    given = {option: value for option, value in locals().items() if value is not None}
    from crossprop.screening.request import ScreenRequest
    from crossprop.screening.result import read_parts
    from crossprop.screening.run import prepare
    from crossprop.screening.summary import announcement, summary, table

    del given["yes"], given["dry_run"]
    given["properties"] = given.pop("property_")
    given["input"] = given.pop("input_", None)
    given["models"] = dict(map(_name_and_model, given.pop("model", ())))
    screening = prepare(ScreenRequest(**given))
    for line in announcement(screening):
        typer.echo(line, err=True)
    if dry_run:
        return
    if screening.pipeline and screening.positions - screening.done.stop > _ASK_BEYOND and not yes:
        raise ScreeningError(
            f"That is more than {_ASK_BEYOND:,} compositions. Add --yes, or reduce them: fewer --elements, --max-atoms."
        )
    try:
        result = screening.run()
    except KeyboardInterrupt:
        _, done = read_parts(out)
        text = f"stopped after {done.stop:,} of {screening.positions:,} positions, {done.kept:,} kept in {out}"
        typer.echo(f"{text}: run the same command to go on", err=True)
        raise typer.Exit(130) from None
    if len(result.top):
        console = Console()
        width = console.width if console.is_terminal else max(console.width, _PIPE_WIDTH)
        Console(width=width).print(table(result, _SHOWN))
    typer.echo("\n".join(summary(result)))


def _name_and_model(text: str) -> tuple[str, str]:
    name, _, model = (part.strip() for part in text.partition("="))
    if not (name and model):
        raise ScreeningError(f"--model {text!r} is not of the form NAME=FOLDER. Give bulk_modulus=models/bulk.")
    return name, model
