"""The command `check`: the quality guard alone."""

from typing import Annotated

import typer

from infertune.cli.options import (
    ConfigFile,
    Device,
    Engine,
    EngineBinary,
    EnginePython,
    Json,
    LoadTimeout,
    MaxQualityLoss,
    MinAgreement,
    Out,
    Progress,
    Seed,
    Set,
    Table,
    Wait,
    Weights,
    Workload,
    flags_of,
    request_of,
)
from infertune.cli.printing import console, print_json


def check(
    model: Annotated[
        str | None, typer.Argument(metavar="PROFILE|MODEL", help="A profile's file; or a model, with --set.")
    ] = None,
    set_: Set = None,
    max_quality_loss: MaxQualityLoss = None,
    min_agreement: MinAgreement = None,
    engine: Engine = None,
    device: Device = None,
    workload: Workload = None,
    weights: Weights = None,
    seed: Seed = None,
    table: Table = None,
    engine_python: EnginePython = None,
    engine_binary: EngineBinary = None,
    load_timeout: LoadTimeout = None,
    wait: Wait = None,
    out: Out = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> int:
    """Does a configuration answer as the engine's default does?

    Ends with 0 (it does), 1 (it does not) or 3 (not decided); 4 where the profile does not hold on this machine.
    """
    flags = flags_of(locals())
    from infertune.cli.terminal_check import print_check
    from infertune.gating.check import CheckRequest, check_request

    request = request_of(CheckRequest, flags, config)
    with Progress() as observer:
        result = check_request(request, observer)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_check(console(), result)
    return result.exit_code
