"""How fast the parts are, beside what one would use instead: `./run_all.sh bench`."""
