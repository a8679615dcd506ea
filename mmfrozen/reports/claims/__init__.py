"""This package defines the runs that test the paper's claims on mini-LVIS,
and turns their records into verdicts, tables and figures."""
