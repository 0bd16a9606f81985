"""One's own data: adding it, configuring a study for it, learning from it without DVC."""

from typing import Final

REPORT_FILE: Final = "report.json"  # beside a model of ``crossprop fit``
