"""What radiologists mark nodules in, one file a kind: each becomes centres in LPS millimetres."""
