"""What `pipelines.doctor` looks at before a job is started: one function a check.

What may be broken is imported inside the check that would notice, so that the others still speak.
"""
