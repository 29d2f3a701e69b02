"""From a request to a proven, saved and reported answer: `tune`, `landscape` and `bench`."""
