"""Raw files -> TFDS: one folder a data set, and what they share. Imports nothing of keras_m3s.

`pickles` reads pickles without running anything from them, `mmsa` the schema that the community's
feature files follow, `features` turns both into TFDS examples.
"""
