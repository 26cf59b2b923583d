"""From a trained checkpoint to a verified release: load, merge LoRA, write the graph, prove it, assemble.

The only room, with training, that imports torch.
"""
