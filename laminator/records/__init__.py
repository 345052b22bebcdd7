"""Records of data sets: typed schemas, canonical records, and what is measured over them."""
