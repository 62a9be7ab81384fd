"""Answers the system calls of steps that a user namespace with one id would refuse.

`calls` says which, `loop` takes them one by one, `peer` looks into the calling task, `claims` keeps
who a task believes it is, `files`, `looks`, `labels` and `ids` answer.
"""
