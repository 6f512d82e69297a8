"""Search, vokenization, revokenization and the voken loss on this machine, in one table: `make bench`."""

import search
import voken_loss
from measuring import table

import vokenization

if __name__ == "__main__":
    table([*search.rows(), *vokenization.rows(), *voken_loss.rows()])
