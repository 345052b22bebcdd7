"""`laminator run` inside the attester: the provider's program, measured from start to card."""

from laminator.run.in_place import check_unchanged
from laminator.run.launch import collect_outputs, plan_workload, run_workload
from laminator.run.outcome import Outcome, WorkloadFailedError, card_written
from laminator.run.progress import tell
from laminator.run.request import RunRequest
from laminator.run.run_list import RunRecord
from laminator.run.session import begin_run, finish_run, write_card
from laminator.run.setup import Setup


def work(setup: Setup, request: RunRequest, record: RunRecord) -> Outcome:
    """Run the workload and write its card. Raises ENDINGS; no card is written then."""
    with begin_run(setup, request, record) as started:
        plan = plan_workload(started)
        ended = run_workload(started, plan)
        if ended.status.code != 0:
            raise WorkloadFailedError(ended.status.code)
        check_unchanged(started.inputs)
        tell(f"measuring {len(plan.collected)} outputs")
        outputs = collect_outputs(plan)
        sealed = finish_run(started, ended.reports, outputs)
        write_card(started, sealed)
    return card_written(sealed.id)
