"""One engine process at a time: started, timed, ended."""
