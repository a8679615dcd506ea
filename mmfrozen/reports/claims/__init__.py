"""The paper's claims, tested on mini-LVIS: cells, records, verdicts."""
