"""Random and mutated input for everything that clients and publishers can send.

`targets` has what is fed, and what must hold whatever comes. `tests/system/test_fuzz.py` feeds some
of it in each run; for as long as one likes, and guided by coverage if atheris is installed::

    pip install atheris
    python -m tests.support.fuzz http --seconds 600 --corpus build/fuzz/http

What was found to be worth keeping is in ``corpus``, a folder for each target.
"""
