"""Evaluation: methods, protocol, tables, and the ablation of Table 2."""
