"""The networks as pure functions of tensors and explicit state.

One alphabet of shapes, used in every docstring below and in runner.py:

    B   rows in this step          S   slots                T   frames or tokens
    N   samples                    D   hidden width         H   attention heads (G key/value heads)
    K   width of one head          Q   the 16 codebooks     V   vocabulary          L   layers

Weights are frozen dataclasses of tensors, loaded once; state is an argument and is updated in place.
Nothing here knows slots being given away, requests, prompts or threads.
"""
