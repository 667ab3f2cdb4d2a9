"""An Airflow 3 DAG: the videos of a day are extracted, scored by a trained network, and evaluated.

    ROOT/manifests/2026-01-31.csv -> ROOT/days/2026-01-31/{dataset,features,scores,report}

Every task is one command of this project. A command that runs again resumes where it stopped, and
its exit code says whether a retry can help. So a retry, a cleared task and a backfill all run the
same commands again.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, Context, Param, chain
from airflow.sdk.exceptions import AirflowException, AirflowFailException

# The interpreter that has this project installed; that of Airflow does not.
PYTHON = os.environ.get("SOUNDTRACK_PYTHON", "python")
# Exit codes that a retry would give again.
FINAL = {2: "bad input", 3: "too many rejects"}
# Another job has the folder. The job of an earlier try may run on where Airflow has lost it, longer
# than the delays of all retries: every command waits for it, and then finds its work done. Without
# FLAGS it would end with this code; with them only if its folder is taken over while it works.
FOLDER_TAKEN = 5
FLAGS = ["--wait-for-lease"]


class CommandOperator(BaseOperator):
    """Run `python -m MODULE ARGUMENTS FLAGS RUNNER_FLAGS` without a shell.

    Raises:
      AirflowFailException: exit code 2 or 3; the task fails without further retries.
      AirflowException: any other exit code but 0, or a signal; the task is retried.
    """

    template_fields = ("arguments",)

    def __init__(self, *, module: str, arguments: Sequence[str], **kwargs: Any):
        super().__init__(**kwargs)
        self.module = module
        self.arguments = arguments
        self._hook = SubprocessHook()

    def execute(self, context: Context) -> None:
        """Run the command to its end."""
        flags = [*FLAGS, *context["params"]["runner_flags"]]
        code = self._hook.run_command(
            [PYTHON, "-m", self.module, *self.arguments, *flags]
        ).exit_code
        if code in FINAL:
            raise AirflowFailException(f"{self.module}: {FINAL[code]} (exit code {code})")
        if code == FOLDER_TAKEN:
            raise AirflowException(f"{self.module}: another job took the folder over (exit code 5)")
        if code:
            raise AirflowException(f"{self.module}: exit code {code}")

    def on_kill(self) -> None:
        """End the command with its task; finished work is kept."""
        self._hook.send_sigterm()


with DAG(
    dag_id="soundtrack_daily",
    description="Extract, score and evaluate the videos of a day",
    schedule="0 3 * * *",  # after the manifest of the day is written
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=2,
    default_args={"retries": 2},
    params={
        "root": Param("/data/soundtrack", type="string", description="path or gs:// URI"),
        "run": Param(
            "/data/soundtrack/run", type="string", description="folder of the network that scores"
        ),
        "max_reject_fraction": Param(0.2, type="number", minimum=0, maximum=1),
        "runner_flags": Param(["--runner=FnApiRunner"], type="array", items={"type": "string"}),
    },
    doc_md=__doc__,
):
    day = "{{ params.root }}/days/{{ ds }}"
    chain(
        CommandOperator(
            task_id="dataset",
            module="pipelines.prepare_dataset",
            arguments=[
                "--manifest={{ params.root }}/manifests/{{ ds }}.csv",
                "--vocabulary={{ params.run }}/export/assets",
                f"--output={day}/dataset",
            ],
        ),
        CommandOperator(
            task_id="features",
            module="pipelines.extract_features",
            arguments=[
                f"--dataset={day}/dataset",
                f"--output={day}/features",
                "--max-reject-fraction={{ params.max_reject_fraction }}",
            ],
        ),
        CommandOperator(
            task_id="scores",
            module="evaluation.score_videos",
            arguments=[
                f"--features={day}/features",
                "--run={{ params.run }}",
                f"--output={day}/scores",
            ],
        ),
        CommandOperator(
            task_id="report",
            module="evaluation.evaluate",
            arguments=[f"--scores={day}/scores", f"--output={day}/report"],
        ),
    )
