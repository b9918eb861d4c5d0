"""`doctor`: what is wrong on this machine, a sentence each, with the remedy."""

from __future__ import annotations

import dataclasses

import click

from warmd.cli.talk import data, json_object, json_option, table


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> int:
    """Look for what is wrong on this machine, and say what helps.

    One line a finding: ok, warn (it works, with a limit) or bad.  Works with and without a daemon, and
    changes nothing.  Exit code 1 when something is bad, else 0.
    """
    from warmd.cli import gpuchecks, hostchecks, placechecks
    from warmd.cli.exits import APP_FAILED
    from warmd.cli.findings import Host, examined
    from warmd.cli.link import named_address

    checks = {**hostchecks.CHECKS, **gpuchecks.CHECKS, **placechecks.CHECKS}
    findings = examined(Host(named_address(ctx)), checks)
    bad = any(finding.level == "bad" for finding in findings)
    if as_json:
        json_object(healthy=not bad, findings=[dataclasses.asdict(finding) for finding in findings])
    else:
        data(table(["", "CHECK", "FINDING"], [[f.level, f.check, f.text] for f in findings]))
    return APP_FAILED if bad else 0
