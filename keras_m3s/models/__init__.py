"""The four base models of the paper, one file each."""
