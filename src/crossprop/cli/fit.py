"""``crossprop fit`` and ``crossprop predict``: from a file to a model folder, from formulas to values."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option

from crossprop.errors import ConfigError

Seed = Annotated[int | None, Option(min=0, help="Seed of every draw.")]

# How a file is read: options of fit, predict and data add.
FormulaColumn = Annotated[str | None, Option(help="Column of the formulas; guessed.")]
ValueColumn = Annotated[str | None, Option(help="Column of the values, if not named like the target.")]
SplitColumn = Annotated[str | None, Option(help="Column of 'train' and 'test'; else a hold-out is drawn.")]
GroupColumn = Annotated[str | None, Option(help="Column of what is never split apart, such as a paper.")]
ElementColumns = Annotated[str | None, Option(help="A column per element: 'atomic' or 'weight' amounts.")]
Amounts = Annotated[Literal["atomic", "weight"] | None, Option(help="What amounts count; atomic if none.")]
Sheet = Annotated[str | None, Option(help="Sheet of a workbook.")]
Encoding = Annotated[str | None, Option(help="Encoding; guessed.")]
Delimiter = Annotated[str | None, Option(help="Separator of the fields, such as ';' or 'tab'; guessed.")]
Decimal = Annotated[str | None, Option(help="Sign of the decimals, '.' or ','; guessed.")]

_READING = (
    "formula_column", "value_column", "split_column", "group_column", "element_columns",
    "amounts", "sheet", "encoding", "delimiter", "decimal",
)  # fmt: skip


def reading_of(context: typer.Context) -> dict[str, Any]:
    """How a file is to be read, as the command's options say; shells have no simple way to write a tab."""
    given = {name: context.params[name] for name in _READING if name in context.params}
    return given | {"delimiter": {"tab": "\t", "\\t": "\t"}.get(given["delimiter"], given["delimiter"])}


app = typer.Typer()
DEFAULT_MINUTES = 10.0


@app.command()
def fit(
    context: typer.Context,
    file: Annotated[Path, Argument(help="CSV or Excel file; its dialect is guessed.")],
    target: Annotated[str, Option(help="Property to learn: the column of its values.")],
    out: Annotated[Path, Option(help="Folder for the model and its report; new or empty.")],
    unit: Annotated[str, Option(help="Unit of the values, such as MPa.")] = "",
    formula_column: FormulaColumn = None,
    value_column: ValueColumn = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    element_columns: ElementColumns = None,
    amounts: Amounts = None,
    sheet: Sheet = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    sources: Annotated[
        str, Option(help="'auto' (public data), 'none', or a folder of networks, such as models/STUDY.")
    ] = "auto",
    minutes: Annotated[float | None, Option(help=f"Minutes to aim at, {DEFAULT_MINUTES:g} if none.")] = None,
    budget: Annotated[Literal["quick", "full"] | None, Option(help="Ten minutes, or all methods.")] = None,
    methods: Annotated[str | None, Option(help="Methods, by commas; else those that fit in.")] = None,
    folds: Annotated[int | None, Option(min=2, help="Folds of the cross-validation.")] = None,
    holdout: Annotated[float | None, Option(min=0.0, max=0.5, help="Share to hold out, 0.1 if none.")] = None,
    seed: Seed = None,
    workers: Annotated[int, Option(min=0, help="Processes; 0 is one on every core.")] = 0,
    drop_invalid: Annotated[bool, Option("--drop-invalid", help="Leave out bad rows, even more than a tenth.")] = False,
    replace: Annotated[bool, Option("--replace", help="Replace what is at --out.")] = False,
) -> None:
    """Learn a property from one file: tune, cross-validate and blend every method, keep the best with its evidence.

    After an interruption the same command continues the fit.
    """
    from crossprop.estimator.fit import fit_file
    from crossprop.estimator.learn import Settings
    from crossprop.estimator.report import summary_lines, table_of_methods
    from crossprop.methods import DEFAULT_SEED

    for first, second in (("minutes", "budget"), ("holdout", "split_column")):
        if context.params[first] is not None and context.params[second] is not None:
            raise ConfigError(f"Give either --{first} or --{second.replace('_', '-')}, not both.")
    settings = Settings(
        target=target,
        unit=unit,
        sources=sources,
        minutes=None if budget == "full" else DEFAULT_MINUTES if minutes is None else minutes,
        methods=listed(methods) or None,
        folds=folds,
        holdout=0.1 if holdout is None else holdout,
        workers=workers,
        seed=DEFAULT_SEED if seed is None else seed,
    )
    reading = reading_of(context)
    try:
        report = fit_file(file, settings, out, reading, drop_invalid=drop_invalid, overwrite=replace)
    except KeyboardInterrupt:
        typer.echo("interrupted: what is finished is kept, run the same command to go on", err=True)
        raise
    typer.echo("\n".join(["", table_of_methods(report), "", *summary_lines(report)]))
    typer.echo(f"model and report: {out}")
    example = "Ti90Al6V4 --amounts weight" if "amounts" in report["columns"] else "NaCl"
    typer.echo(f"next: crossprop predict {out} {example}, or crossprop serve --model {out}")


def listed(text: str | None) -> list[str]:
    """The parts of a comma-separated text."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


@app.command()
def predict(
    context: typer.Context,
    model: Annotated[str, Argument(help="Folder of a model, or a registered <study>.<target> or <target>.")],
    formulas: Annotated[list[str] | None, Argument(help="Formulas; '-' reads them from a pipe.")] = None,
    input_file: Annotated[Path | None, Option("--input", help="CSV or Excel file; columns are kept.")] = None,
    formula_column: FormulaColumn = None,
    element_columns: ElementColumns = None,
    amounts: Amounts = None,
    sheet: Sheet = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    output: Annotated[Path | None, Option(help="File to write: .csv, .parquet or .json.")] = None,
    form: Annotated[Literal["table", "csv", "json"] | None, Option("--format", help="What to print.")] = None,
    version: Annotated[str | None, Option(help="Version of a registered model.")] = None,
    alias: Annotated[str | None, Option(help="Alias of a registered model; 'champion' unless given.")] = None,
) -> None:
    """Predict a property of formulas, with intervals and a note where the model is out of its domain.

    Rows that hold no formula are listed with their line, all others are predicted; the exit status is then 3.
    """
    from crossprop.estimator import predict as work
    from crossprop.inference.predictor import ServedModel

    if bool(formulas) == (input_file is not None):
        raise ConfigError("Give formulas, or --input with a file, or '-' to read a pipe: one of them.")
    reading = reading_of(context)
    of_file = any(given for name, given in reading.items() if name != "amounts")
    if formulas and formulas != ["-"] and ("-" in formulas or of_file):
        raise ConfigError("Give formulas alone: '-' reads a pipe; options such as --formula-column choose in a file.")
    if element_columns and amounts:
        raise ConfigError("Give either --element-columns or --amounts, not both.")
    if version is not None and alias is not None:
        raise ConfigError("Give either --version or --alias, not both.")
    if output is not None and output.suffix not in (".csv", ".parquet", ".json"):
        raise ConfigError(f"{output} has the ending {output.suffix!r}. Choose .csv, .parquet or .json.")
    if output is not None and input_file is not None and output.resolve() == input_file.resolve():
        raise ConfigError(f"--output would replace {input_file}, which --input reads. Name another file.")
    asked = work.read_input(formulas or [], input_file, reading.pop("formula_column"), **reading)
    folder = work.model_folder(model, version=version, alias=alias)
    served = ServedModel.load(folder)
    if element_columns:
        work.refuse_values(asked, served.info["target"])
    predicted = work.predict(served, asked)
    unsaid = [] if element_columns or amounts else work.doubts_of_amounts(folder)
    for note in [*asked.notes, *unsaid]:
        typer.echo(f"note: {note}", err=True)
    if output is not None:
        work.write_predictions(predicted, output)
        typer.echo(f"{len(predicted):,} row{'s' * (len(predicted) != 1)} written to {output}", err=True)
    if output is None or form is not None:
        work.print_predictions(predicted, served.info, form or ("table" if sys.stdout.isatty() else "csv"))
    if bad := [text for text in predicted["error"] if text]:
        left_out = f"{len(bad)} of {len(predicted)} rows hold no formula and were not predicted"
        typer.echo("\n".join([*bad[:20], f"{left_out}. Correct them and predict them again."]), err=True)
        raise typer.Exit(3)
