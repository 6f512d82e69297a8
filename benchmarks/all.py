"""All benchmarks but fine-tuning's on this machine, in one table: `make bench`."""

import corpora
import grounded
import search
import voken_loss
from measuring import table

import vokenization

if __name__ == "__main__":
    table([*search.rows(), *vokenization.rows(), *voken_loss.rows(), *grounded.rows(), *corpora.rows()])
