"""Evaluation: methods, protocol, records, tables, and the ablation of Table 2."""
