"""Bad input at scale: valid input, changed at random, against what each reader promises.

Never a traceback, never a hang, never a call; no message holds a secret, nor anything of a row but its key and number.
The suite runs a short form that is the same each time. The long form is for a machine that has an hour to spare:

    FUZZ=1 python -m pytest tests/fuzz -n 2 --hypothesis-seed=SEED --hypothesis-show-statistics

`FUZZ=0.1` is a tenth of its budget, `FUZZ=10` ten times. What was run, and what it found: tests/README.md.
"""
