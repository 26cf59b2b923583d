"""The network: CLIP towers with LoRA, the heads of the method, and the loss."""
