"""Options of the commands that read a file of measurements; how a column or a sign is found without them is guessed."""

from __future__ import annotations

from typing import Annotated

import typer

GroupColumn = Annotated[
    str | None,
    typer.Option(help="Column of what stays on one side of every split: a paper, a sample series."),
]
ElementColumns = Annotated[
    str | None,
    typer.Option(help="One column per element instead of formulas: 'atomic' or 'weight' amounts."),
]
Sheet = Annotated[str | None, typer.Option(help="Sheet of a workbook.")]
Encoding = Annotated[str | None, typer.Option(help="Encoding; guessed.")]
Delimiter = Annotated[str | None, typer.Option(help="Separator of the fields; guessed.")]
Decimal = Annotated[str | None, typer.Option(help="Sign of the decimals, '.' or ','; guessed.")]
