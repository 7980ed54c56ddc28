"""The command `sinapse`, run in this process."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from sinapse.cli import main


def run(*arguments: str, given: str | None = None, code: int = 0) -> Result:
    """Return what the command says, if it ends with that code."""
    result = CliRunner().invoke(main, arguments, input=given)
    assert result.exit_code == code, (result.output, result.exception)
    if code:
        assert "Traceback" not in result.output
    return result


def diagnosis(*arguments: str, code: int = 0) -> dict[str, tuple[str, str, str]]:
    """Return what the doctor finds: verdict, finding and advice, by what was looked at."""
    lines = run("doctor", *arguments, "--json", code=code).stdout.splitlines()
    findings = map(json.loads, lines)
    return {each["what"]: (each["verdict"], each["found"], each["advice"]) for each in findings}
