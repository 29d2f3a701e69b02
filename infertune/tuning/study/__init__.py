"""`infertune study`: the cells of a plan, each measured once, and one report on all of them."""
