"""What the encoder costs, what a machine could do, and what is reached of it.

`graph_work` counts from the graph, `machine_peak` measures this machine, `cards` has what vendors say of theirs.
"""
