"""The values that everything else speaks of: knobs, models, workloads, devices, measurements, trials, requests."""
