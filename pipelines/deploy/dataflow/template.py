"""Program of the launcher of a Flex Template: runs the job that the parameter `job` names.

--job=pipelines.extract_features --dataset=gs://bucket/dataset --output=gs://bucket/features ...
"""

import runpy
import sys

_FLAG = "--job="

if __name__ == "__main__":
    (job,) = (word.removeprefix(_FLAG) for word in sys.argv if word.startswith(_FLAG))
    sys.argv = [word for word in sys.argv if not word.startswith(_FLAG)]
    runpy.run_module(job, run_name="__main__", alter_sys=True)
