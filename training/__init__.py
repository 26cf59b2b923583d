"""Fine-tuning: nodules with labels and ratings -> a checkpoint that `noduleserve export` reads.

`data/` makes views and reports of nodules, `model/` is the network and its loss; the rest trains it, fold by fold.
"""
