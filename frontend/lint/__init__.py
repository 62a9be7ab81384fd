"""Build checks: warnings about what is legal and still worth mending [LNT].

A rule is a `Rule` record in the module named after what it is about; the function that decides
stands below it. ``catalogue.py`` lists them all. Three places call them: ``filecheck.py`` runs what
needs only the text, ``frontend/lowering/evaluate.py`` and what it calls run what needs the stage at a line.
Every rule has a page in ``docs/lint/``; a test reads them.
"""
