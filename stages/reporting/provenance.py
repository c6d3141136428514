"""What made each row: hashes, MLflow runs, trainings, machines and costs; folded away below the results."""

from collections.abc import Callable, Sequence

from stages.metrics.results import Result
from stages.reporting.tables import NOTHING, folded, markdown_table, milliseconds, parameters, share
from stages.reporting.times import DEVICES, Times

INTRODUCTION = """\
## Provenance

Hashes of the inputs (data, parameters, code) and of the trained model; the MLflow run has the training's history and
its duration. `git log reports/experiments/NAME` says when a result was committed.
"""
MACHINE = {
    "CPU": lambda machine: f"{machine.cpu}, {machine.threads} thread{'' if machine.threads == 1 else 's'}",
    "instruction set": lambda machine: machine.isa,
    "locked packages": lambda machine: machine.lock[:8],
}


def _machines(results: Sequence[Result]) -> list[tuple[Result, str, object]]:
    """The machine of every step of every result."""
    machines = []
    for result in results:
        steps = [("train", result.training)] if result.is_experiment else []
        machines += [(result, *step) for step in (*steps, ("evaluate", result.provenance.environment))]
    return machines


def made_on(result: Result) -> str:
    """`Intel(R) Xeon(R) Processor, 2 threads, AVX512; locked packages 1cafd1a2; code 2eef6a97`"""
    machine = result.provenance.environment
    cpu, isa, lock = (fact(machine) for fact in MACHINE.values())
    return f"{cpu}, {isa}; locked packages {lock}; code {result.provenance.hashes.code[:8]}"


def _equal(values: Sequence[str], what: str) -> str:
    """`protocol exact`, where it is the same for all."""
    return f"{what} {values[0]}" if len(set(values)) == 1 else ""


def common(experiments: Sequence[Result]) -> str:
    """How all of a section's experiments were made, as far as it was the same; empty where nothing is."""
    facts: list[tuple[str, Callable[[Result], str]]] = [
        ("recipe", lambda result: result.provenance.training_recipe),
        ("epochs", lambda result: str(result.training.epochs)),
        ("seed", lambda result: str(result.training.seed)),
        ("device", lambda result: result.training.device),
        ("code", lambda result: result.provenance.hashes.code[:8]),
    ]
    parts = [_equal([fact(result) for result in experiments], what) for what, fact in facts]
    machines = [machine for _, _, machine in _machines(experiments)]
    parts += [_equal([fact(machine) for machine in machines], what) for what, fact in MACHINE.items()]
    return ", ".join(filter(None, parts))


def section(results: Sequence[Result], times: Times) -> str:
    results = sorted(results, key=lambda result: ("experiment", "submission", "cross_dataset").index(
        result.provenance.kind
    ))  # fmt: skip
    experiments = [(result.name, result.provenance, result.training) for result in results if result.is_experiment]
    made = [(result.name, result.provenance, result.provenance.hashes) for result in results]
    runs = markdown_table(
        ("name", "MLflow run", "data", "params", "code", "model"),
        [(name, p.run or NOTHING, h.data[:8], h.params[:8], h.code[:8], h.model[:8] or NOTHING) for name, p, h in made],
        left=6,
    )
    trainings = markdown_table(
        ("experiment", "recipe", "set differently", "initial weights", "protocol", "device", "input px", "epochs",
         "seed", "landmarks outside the input"),
        [
            (name, p.recipe, p.variant or NOTHING, p.init, p.protocol, training.device, p.input_px, training.epochs,
             training.seed, share(p.outside_input, 2))
            for name, p, training in experiments
        ],
        left=6,
    )  # fmt: skip
    costs = markdown_table(
        ("experiment", "parameters (M)", "MB", "GFLOPs a face", *(f"{device} ms a face" for device in DEVICES)),
        [
            (name, parameters(p.cost.parameters), f"{p.cost.megabytes:.1f}", f"{p.cost.gflops:.2f}",
             *(milliseconds(times.of(p.workload, device)) for device in DEVICES))
            for name, p, _ in experiments
        ],
    )  # fmt: skip
    whole = markdown_table(
        ("name", "fingerprint", "data", "params", "code", "initial weights", "model", "predictions"),
        [(name, p.fingerprint, *(value or NOTHING for _, value in hashes)) for name, p, hashes in made],
        left=8,
    )
    machines = markdown_table(
        ("name", "step", "CPU", "threads", "instruction set", "locked packages"),
        [(result.name, step, machine.cpu, machine.threads, machine.isa, machine.lock)
         for result, step, machine in _machines(results)],
        left=6,
    )  # fmt: skip
    measured = f"Times were measured by `make bench` ({times.measured_on()}):"
    return "\n".join([
        INTRODUCTION,
        folded("MLflow runs and hashes", runs),
        folded("Trainings", trainings),
        folded("Cost of a face: parameters, memory, GFLOPs and time", f"{measured}\n\n{costs}"),
        folded("Full hashes, and the machines that the last bits depend on", f"{whole}\n{machines}"),
    ])  # fmt: skip
