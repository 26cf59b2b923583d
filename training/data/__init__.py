"""What is trained on: nodules of every source as examples, their views varied, their ratings told as reports."""
