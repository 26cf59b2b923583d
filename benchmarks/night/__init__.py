"""The whole way of a night, DICOM on disk to a row of results: how fast, and where the time goes."""
