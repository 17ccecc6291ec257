"""Weights that somebody else named: maps from their names to the paths of a text.

    embeddings.word_embeddings.weight         -> wte.weight
    encoder.layer.{i}.attention.self.query.*  -> h[{i}].attn.q.*     # {i} and * stand for the same on both sides
    h.{i}.mlp.c_fc.bias                       -> h[{i}].up.bias
    transpose(h.{i}.mlp.c_fc.weight)          -> h[{i}].up.weight    # for what stores them the other way round
    (l.{i}.q.weight, l.{i}.k.weight)          -> h[{i}].qk.weight    # several into one, below one another
    transpose(h.{i}.attn.c_attn.weight)       -> (h[{i}].attn.q.weight, h[{i}].attn.k.weight, h[{i}].attn.v.weight)
    *.position_ids                            -> nothing

The first rule that fits a name holds; a name that none fits stays what it is.
"""

from archc.weights.rename.apply import rename
from archc.weights.rename.rules import Rule, parse_rules, read_rules

__all__ = ["Rule", "parse_rules", "read_rules", "rename"]
