"""Bytes: the frame format (codec.py) and the array encodings (encodings/). Never pickle."""
