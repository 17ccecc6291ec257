"""Methods that compression passes share: ranges, metrics, calibration, solvers and allocation."""
