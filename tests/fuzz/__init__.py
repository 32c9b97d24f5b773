"""A fuzzer of every file reader: valid small files, damaged at random, and what must hold then.

    make fuzz                                        # a minute, from seeds that no one has seen
    python -m tests.fuzz --target csd --seed 123     # one case again

A reader of a damaged file returns, or raises its own error: one that says what must hold. It runs
nothing the file says, writes nothing, ends soon, and takes no more memory than the file could hold.
"""
